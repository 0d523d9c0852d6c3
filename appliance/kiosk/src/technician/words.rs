//! The texts of the technician's page, in each language.

use engine::kiosk::Language;
use engine::message::{BootState, HealthState, ProvisioningState};

/// The fixed texts of one language.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// Headline of the page.
    pub title: &'static str,
    /// Headline above the digits.
    pub code: &'static str,
    /// The digits were wrong.
    pub wrong: &'static str,
    /// Too many were wrong.
    pub locked: &'static str,
    /// Button: to the shoppers' page.
    pub close: &'static str,
    /// Button: delete the last digit.
    pub delete: &'static str,
    /// A box that does not know what it is.
    pub unprovisioned: &'static str,
    /// What a technician does about that.
    pub provision: &'static str,
    /// The box's name.
    pub name: &'static str,
    /// Store and role.
    pub role: &'static str,
    /// Serial number.
    pub serial: &'static str,
    /// Image version and slot.
    pub image: &'static str,
    /// Whether the slot has proved itself.
    pub boot: &'static str,
    /// The last return to the other slot.
    pub rollback: &'static str,
    /// There was none.
    pub no_rollback: &'static str,
    /// What did not hold when the box started.
    pub trouble: &'static str,
    /// Keys that sign for this box.
    pub keys: &'static str,
    /// They are anybody's.
    pub development_keys: &'static str,
    /// The provisioning file.
    pub provisioning: &'static str,
    /// The role manifest.
    pub manifest: &'static str,
    /// Network addresses.
    pub address: &'static str,
    /// There is none.
    pub no_address: &'static str,
    /// The clock.
    pub clock: &'static str,
    /// It is right.
    pub trusted: &'static str,
    /// It may be wrong.
    pub untrusted: &'static str,
    /// The message broker.
    pub bus: &'static str,
    /// Connected to it.
    pub connected: &'static str,
    /// Not connected to it.
    pub not_connected: &'static str,
    /// No service has said anything.
    pub no_health: &'static str,
    /// The caretaker has said nothing.
    pub no_box: &'static str,
}

const KOREAN: Words = Words {
    title: "기기 점검",
    code: "기술자 번호를 누르세요",
    wrong: "번호가 맞지 않아요",
    locked: "잠겼어요. 5분 뒤에 다시 해 주세요",
    close: "닫기",
    delete: "지우기",
    unprovisioned: "설정되지 않은 기기입니다",
    provision: "설정 파일이 든 USB를 꽂아 주세요",
    name: "이름",
    role: "매장, 역할",
    serial: "일련번호",
    image: "이미지",
    boot: "부팅 상태",
    rollback: "마지막 되돌림",
    no_rollback: "없음",
    trouble: "문제",
    keys: "서명 열쇠",
    development_keys: "개발용 열쇠: 매장에서 쓰지 마세요",
    provisioning: "설정 파일",
    manifest: "역할 파일",
    address: "네트워크",
    no_address: "주소 없음",
    clock: "시계",
    trusted: "맞음",
    untrusted: "확인 안 됨",
    bus: "메시지 버스",
    connected: "연결됨",
    not_connected: "연결 안 됨",
    no_health: "아직 상태를 알린 장치가 없어요",
    no_box: "관리 서비스가 아직 알려 오지 않았어요",
};

const ENGLISH: Words = Words {
    title: "This box",
    code: "Technician's code",
    wrong: "That is not the code",
    locked: "Locked. Try again in 5 minutes",
    close: "Close",
    delete: "Delete",
    unprovisioned: "This box is not provisioned",
    provision: "Plug in a USB stick with its provisioning file",
    name: "Name",
    role: "Store, role",
    serial: "Serial number",
    image: "Image",
    boot: "Boot",
    rollback: "Last rollback",
    no_rollback: "none",
    trouble: "Trouble",
    keys: "Signing keys",
    development_keys: "Development keys: not for a store",
    provisioning: "Provisioning",
    manifest: "Role manifest",
    address: "Network",
    no_address: "no address",
    clock: "Clock",
    trusted: "right",
    untrusted: "not confirmed",
    bus: "Message bus",
    connected: "connected",
    not_connected: "not connected",
    no_health: "no device has reported yet",
    no_box: "the caretaker has not reported yet",
};

/// The texts of `language`.
#[must_use]
pub const fn of(language: Language) -> &'static Words {
    match language {
        Language::Korean => &KOREAN,
        Language::English => &ENGLISH,
    }
}

/// Whether the slot has proved itself.
#[must_use]
pub const fn boot(language: Language, boot: BootState) -> &'static str {
    use Language::{English, Korean};
    match (boot, language) {
        (BootState::Good, Korean) => "확인된 이미지",
        (BootState::Good, English) => "good",
        (BootState::Trial, Korean) => "시험 중",
        (BootState::Trial, English) => "on trial",
        (BootState::Unknown, Korean) => "알 수 없음",
        (BootState::Unknown, English) => "unknown",
    }
}

/// How a device is.
#[must_use]
pub const fn health(language: Language, state: HealthState) -> &'static str {
    use Language::{English, Korean};
    match (state, language) {
        (HealthState::Up, Korean) => "정상",
        (HealthState::Up, English) => "up",
        (HealthState::Degraded, Korean) => "불안정",
        (HealthState::Degraded, English) => "degraded",
        (HealthState::Down, Korean) => "고장",
        (HealthState::Down, English) => "down",
    }
}

/// What became of the provisioning file.
#[must_use]
pub const fn provisioning(language: Language, state: ProvisioningState) -> &'static str {
    use Language::{English, Korean};
    match (state, language) {
        (ProvisioningState::None, Korean) => "없음",
        (ProvisioningState::None, English) => "none",
        (ProvisioningState::Accepted, Korean) => "받음",
        (ProvisioningState::Accepted, English) => "accepted",
        (ProvisioningState::Refused, Korean) => "거절됨",
        (ProvisioningState::Refused, English) => "refused",
    }
}

/// How long ago, roughly.
#[must_use]
pub fn ago(language: Language, seconds: u64) -> String {
    let (number, ko, en) = match seconds {
        0..60 => (seconds, "초", "s"),
        60..3600 => (seconds / 60, "분", "min"),
        3600..86_400 => (seconds / 3600, "시간", "h"),
        _ => (seconds / 86_400, "일", "d"),
    };
    match language {
        Language::Korean => format!("{number}{ko} 전부터"),
        Language::English => format!("for {number} {en}"),
    }
}
