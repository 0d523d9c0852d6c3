//! Every text of the screens, in each language: a field that a language lacks does not compile.

use engine::kiosk::{CallView, Language};
use engine::message::{DenyReason, Notice};
use engine::units::Money;

/// A headline with what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Say {
    /// What is.
    pub title: &'static str,
    /// What to do; may be empty.
    pub text: &'static str,
}

const fn say(title: &'static str, text: &'static str) -> Say {
    Say { title, text }
}

/// The fixed texts of one language.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// The language's own name.
    pub name: &'static str,
    /// First page of the help kiosk.
    pub greeting: Say,
    /// Home page.
    pub home: Say,
    /// Where to hold a product.
    pub scan_hint: &'static str,
    /// The reader does not work.
    pub reader_down: &'static str,
    /// Button to the search.
    pub search: &'static str,
    /// Empty search field.
    pub search_hint: &'static str,
    /// No product has that name.
    pub no_hits: &'static str,
    /// Keyboard: letters of this language.
    pub key_letters: &'static str,
    /// Keyboard: the other language's letters.
    pub key_other: &'static str,
    /// Keyboard: digits.
    pub key_digits: &'static str,
    /// Keyboard: space.
    pub key_space: &'static str,
    /// Keyboard: delete all.
    pub key_clear: &'static str,
    /// The code is of no product sold here.
    pub not_found: Say,
    /// The code is no product code.
    pub not_a_product: Say,
    /// A product without a place.
    pub no_place: &'static str,
    /// Button: call staff.
    pub call: &'static str,
    /// Button: stop waiting.
    pub cancel_call: &'static str,
    /// Button: one page back.
    pub back: &'static str,
    /// Button: finished.
    pub done: &'static str,
    /// Toggle: controls within reach from a seat.
    pub low_reach: &'static str,
    /// Toggle: black ground.
    pub high_contrast: &'static str,
    /// Steps of a call.
    pub steps: [&'static str; 3],
    /// Are you still there?
    pub leaving: &'static str,
    /// Button: more time.
    pub more_time: &'static str,
}

const KOREAN: Words = Words {
    name: "한국어",
    greeting: say("무엇을 도와드릴까요?", "가격과 위치를 알려 드려요"),
    home: say("상품을 찾아 드릴게요", ""),
    scan_hint: "바코드를 아래에 대 주세요",
    reader_down: "스캐너 고장, 이름으로 찾아 주세요",
    search: "이름으로 찾기",
    search_hint: "상품 이름",
    no_hits: "찾는 상품이 없어요. 다른 이름으로 찾아 보세요.",
    key_letters: "가나다",
    key_other: "ABC",
    key_digits: "123",
    key_space: "띄우기",
    key_clear: "지우기",
    not_found: say("이 매장에 없는 상품이에요", "이름으로 찾거나 직원을 불러 주세요"),
    not_a_product: say("상품 바코드가 아니에요", "상품의 줄무늬 바코드를 대 주세요"),
    no_place: "직원에게 물어 주세요",
    call: "직원 부르기",
    cancel_call: "괜찮아요, 돌아가기",
    back: "뒤로",
    done: "처음으로",
    low_reach: "낮은 화면",
    high_contrast: "고대비 화면",
    steps: ["직원에게 보냄", "직원이 확인함", "직원이 오는 중"],
    leaving: "계속 이용하시겠어요?",
    more_time: "계속 이용하기",
};

const ENGLISH: Words = Words {
    name: "English",
    greeting: say("How can we help?", "Prices and where things are"),
    home: say("Let's find your product", ""),
    scan_hint: "Scan the barcode below",
    reader_down: "Scanner is broken, search by name",
    search: "Search by name",
    search_hint: "Product name",
    no_hits: "No product of that name. Try another word.",
    key_letters: "ABC",
    key_other: "가나다",
    key_digits: "123",
    key_space: "Space",
    key_clear: "Clear",
    not_found: say("We don't sell this", "Search by name, or call staff"),
    not_a_product: say("Not a product code", "Show the striped barcode on the product"),
    no_place: "Please ask our staff",
    call: "Call staff",
    cancel_call: "It's fine, go back",
    back: "Back",
    done: "Start over",
    low_reach: "Low reach",
    high_contrast: "High contrast",
    steps: ["Sent to staff", "Staff have seen it", "Staff are coming"],
    leaving: "Are you still there?",
    more_time: "I need more time",
};

/// The texts of `language`.
#[must_use]
pub const fn of(language: Language) -> &'static Words {
    match language {
        Language::Korean => &KOREAN,
        Language::English => &ENGLISH,
    }
}

/// What the gate screen says.
#[must_use]
pub fn notice(language: Language, notice: &Notice) -> Say {
    use Language::{English, Korean};
    match (notice, language) {
        (Notice::Idle, Korean) => say("어서 오세요", "입장 코드를 준비해 주세요"),
        (Notice::Idle, English) => say("Welcome", "Please have your entry code ready"),
        (Notice::ScanHere, Korean) => say("코드를 아래에 대 주세요", "화면 밝기를 높여 주세요"),
        (Notice::ScanHere, English) => say("Hold your code below", "Turn up your screen's brightness"),
        // One is whoever stands there; of a party more are still to come.
        (Notice::Welcome { remaining: 0 | 1 }, Korean) => say("들어오세요", "즐거운 쇼핑 되세요"),
        (Notice::Welcome { remaining: 0 | 1 }, English) => say("Come on in", "Enjoy your shopping"),
        (Notice::Welcome { .. }, Korean) => say("한 분씩 들어오세요", "일행은 같은 코드로 들어올 수 있어요"),
        (Notice::Welcome { .. }, English) => say("One by one, please", "Your party may use the same code"),
        (Notice::Refused { reason }, _) => refused(language, *reason),
        (Notice::Goodbye, Korean) => say("안녕히 가세요", "영수증은 휴대폰으로 보내 드려요"),
        (Notice::Goodbye, English) => say("Goodbye", "Your receipt comes to your phone"),
        (Notice::StepBack, Korean) => say("뒤로 물러나 주세요", "한 분씩 지나가 주세요"),
        (Notice::StepBack, English) => say("Please step back", "One person at a time"),
        (Notice::WrongWay, Korean) => say("나가는 통로입니다", "입구로 들어와 주세요"),
        (Notice::WrongWay, English) => say("This is an exit", "Please come in by the entrance"),
        (Notice::ExitOnly, Korean) => say("나가는 통로", "들어오실 때는 입구를 이용해 주세요"),
        (Notice::ExitOnly, English) => say("Exit", "Please come in by the entrance"),
        (Notice::Free, Korean) => say("그냥 들어오세요", "코드가 필요 없어요"),
        (Notice::Free, English) => say("Walk right in", "No code is needed"),
        (Notice::StoreClosed { .. }, Korean) => {
            say("영업 시간이 아니에요", "나가실 때는 언제든 나갈 수 있어요")
        }
        (Notice::StoreClosed { .. }, English) => say("The store is closed", "You can leave at any time"),
        (Notice::StoreFull, Korean) => say("매장이 꽉 찼어요", "한 분이 나가시면 들어올 수 있어요"),
        (Notice::StoreFull, English) => say("The store is full", "Please wait until somebody leaves"),
        (Notice::StaffOnly, Korean) => say("지금은 직원만 들어올 수 있어요", "잠시 뒤에 다시 와 주세요"),
        (Notice::StaffOnly, English) => say("Staff only right now", "Please come back later"),
        (Notice::AskStaff, Korean) => say("직원이 문을 열어 드려요", "직원을 불러 주세요"),
        (Notice::AskStaff, English) => say("Staff will let you in", "Please call staff"),
        (Notice::LaneClosed, Korean) => say("닫힌 통로예요", "다른 통로를 이용해 주세요"),
        (Notice::LaneClosed, English) => say("This lane is closed", "Please use another lane"),
        (Notice::Cleaning, Korean) => say("청소 중이에요", "다른 통로를 이용해 주세요"),
        (Notice::Cleaning, English) => say("Cleaning in progress", "Please use another lane"),
        (Notice::Maintenance, Korean) => say("점검 중이에요", "다른 통로를 이용해 주세요"),
        (Notice::Maintenance, English) => say("Under maintenance", "Please use another lane"),
        (Notice::OutOfOrder, Korean) => say("이 통로는 고장입니다", "다른 통로를 이용해 주세요"),
        (Notice::OutOfOrder, English) => say("This lane is out of order", "Please use another lane"),
        (Notice::Evacuate, Korean) => say("건물 밖으로 대피하세요", "모든 문이 열려 있습니다"),
        (Notice::Evacuate, English) => say("Leave the building now", "All gates are open"),
    }
}

/// Why an entry was refused, and what to do about it.
#[must_use]
pub fn refused(language: Language, reason: DenyReason) -> Say {
    match language {
        Language::Korean => refused_ko(reason),
        Language::English => refused_en(reason),
    }
}

fn refused_ko(reason: DenyReason) -> Say {
    match reason {
        DenyReason::NotAnEntryCode => say("입장 코드가 아니에요", "앱에서 입장 코드를 열어 주세요"),
        DenyReason::Malformed => say("코드를 읽지 못했어요", "화면 전체를 다시 대 주세요"),
        DenyReason::UnknownIssuer => say("알 수 없는 코드예요", "앱을 업데이트해 주세요"),
        DenyReason::BadSignature => say("확인할 수 없는 코드예요", "앱에서 코드를 다시 열어 주세요"),
        DenyReason::OtherStore => say("다른 매장의 코드예요", "이 매장의 앱을 열어 주세요"),
        DenyReason::Expired => say("입장권이 만료되었어요", "인터넷에 연결하고 앱을 다시 열어 주세요"),
        DenyReason::NotYetValid => say("아직 쓸 수 없는 입장권이에요", "시작 시간 뒤에 다시 와 주세요"),
        DenyReason::Stale => say("시간이 지난 코드예요", "캡처 화면이 아닌 앱의 코드를 대 주세요"),
        DenyReason::FromTheFuture => say("휴대폰 시계가 맞지 않아요", "시간을 자동 설정으로 바꿔 주세요"),
        DenyReason::Replayed => say("이미 사용한 코드예요", "새 코드가 나오면 다시 대 주세요"),
        DenyReason::Revoked => say("사용할 수 없는 입장권이에요", "직원을 불러 주세요"),
        DenyReason::AlreadyInside => say("이미 입장하셨어요", "먼저 퇴장한 뒤 다시 대 주세요"),
        DenyReason::PartyFull => say("일행이 모두 들어왔어요", "다른 코드를 대 주세요"),
        DenyReason::ClockUntrusted => say("지금은 확인할 수 없어요", "직원을 불러 주세요"),
        DenyReason::RateLimited => say("너무 여러 번 시도했어요", "1분 뒤에 다시 대 주세요"),
        DenyReason::IssuerRetired => say("오래된 코드예요", "인터넷에 연결하고 앱을 다시 열어 주세요"),
        DenyReason::ListsStale => say("지금은 확인할 수 없어요", "직원을 불러 주세요"),
        DenyReason::UsedUp => say("이미 사용한 초대권이에요", "초대한 분께 새 초대권을 받아 주세요"),
        DenyReason::UnknownCard => say("등록되지 않은 카드예요", "직원을 불러 주세요"),
        DenyReason::StoreClosed => say("영업 시간이 아니에요", "여는 시간에 다시 와 주세요"),
        DenyReason::StoreFull => say("매장이 꽉 찼어요", "한 분이 나가시면 다시 대 주세요"),
        DenyReason::StaffOnly => say("지금은 직원만 들어올 수 있어요", "잠시 뒤에 다시 와 주세요"),
        DenyReason::AskStaff => say("직원이 문을 열어 드려요", "직원을 불러 주세요"),
        DenyReason::UnderMaintenance => say("점검 중이에요", "다른 통로를 이용해 주세요"),
        DenyReason::LaneClosed => say("닫힌 통로예요", "다른 통로를 이용해 주세요"),
        DenyReason::LaneFaulty => say("통로에 문제가 있어요", "다른 통로를 이용해 주세요"),
        DenyReason::LaneBusy => say("잠시만 기다려 주세요", "앞 손님이 지나간 뒤 다시 대 주세요"),
    }
}

fn refused_en(reason: DenyReason) -> Say {
    match reason {
        DenyReason::NotAnEntryCode => say("Not an entry code", "Open the entry code in the app"),
        DenyReason::Malformed => say("Could not read the code", "Show the whole screen again"),
        DenyReason::UnknownIssuer => say("Unknown code", "Please update the app"),
        DenyReason::BadSignature => say("Code cannot be verified", "Open the code in the app again"),
        DenyReason::OtherStore => say("Code of another store", "Open the app of this store"),
        DenyReason::Expired => say("Your pass has expired", "Go online and open the app again"),
        DenyReason::NotYetValid => say("Your pass is not valid yet", "Come back when it starts"),
        DenyReason::Stale => say("This code is too old", "Use the app's live code, not a screenshot"),
        DenyReason::FromTheFuture => say("Your phone's clock is wrong", "Set its time to automatic"),
        DenyReason::Replayed => say("Code used already", "Wait for the next code and try again"),
        DenyReason::Revoked => say("This pass is blocked", "Please call staff"),
        DenyReason::AlreadyInside => say("You are inside already", "Leave first, then try again"),
        DenyReason::PartyFull => say("Your party is complete", "Please use another code"),
        DenyReason::ClockUntrusted => say("Cannot check right now", "Please call staff"),
        DenyReason::RateLimited => say("Too many tries", "Try again in a minute"),
        DenyReason::IssuerRetired => say("Your pass is too old", "Go online and open the app again"),
        DenyReason::ListsStale => say("Cannot check right now", "Please call staff"),
        DenyReason::UsedUp => say("This guest pass is used up", "Ask your host for a new one"),
        DenyReason::UnknownCard => say("Unknown card", "Please call staff"),
        DenyReason::StoreClosed => say("The store is closed", "Come back when it opens"),
        DenyReason::StoreFull => say("The store is full", "Try again when somebody has left"),
        DenyReason::StaffOnly => say("Staff only right now", "Please come back later"),
        DenyReason::AskStaff => say("Staff will let you in", "Please call staff"),
        DenyReason::UnderMaintenance => say("Under maintenance", "Please use another lane"),
        DenyReason::LaneClosed => say("This lane is closed", "Please use another lane"),
        DenyReason::LaneFaulty => say("This lane has a problem", "Please use another lane"),
        DenyReason::LaneBusy => say("One moment, please", "Try again after the person before you"),
    }
}

/// How far a call is: on its page, and shortened for the button of a gate screen.
#[must_use]
pub fn call(language: Language, call: CallView) -> (Say, &'static str) {
    use Language::{English, Korean};
    match (call, language) {
        (CallView::Sending, Korean) => (say("직원을 부르고 있어요", "잠시만 기다려 주세요"), "부르는 중"),
        (CallView::Sending, English) => (say("Calling staff", "One moment, please"), "Calling"),
        (CallView::Sent, Korean) => (say("직원에게 알렸어요", "곧 확인할 거예요"), "직원에게 알림"),
        (CallView::Sent, English) => (say("Staff are told", "Somebody will look shortly"), "Staff told"),
        (CallView::Seen, Korean) => (say("직원이 확인했어요", "조금만 기다려 주세요"), "직원이 확인함"),
        (CallView::Seen, English) => (say("Staff have seen it", "Just a moment"), "Staff saw it"),
        (CallView::Coming, Korean) => {
            (say("직원이 오고 있어요", "이 자리에서 기다려 주세요"), "직원이 오는 중")
        }
        (CallView::Coming, English) => (say("Staff are coming", "Please wait here"), "Staff coming"),
        (CallView::Closed, Korean) => (say("도와드렸어요", "좋은 하루 되세요"), "완료"),
        (CallView::Closed, English) => (say("Glad to have helped", "Have a nice day"), "Done"),
        (CallView::Lost, Korean) => {
            (say("직원과 연결되지 않아요", "계속 부르고 있어요. 가까운 직원에게 말씀해 주세요"), "연결 안 됨")
        }
        (CallView::Lost, English) => {
            (say("No answer yet", "We keep calling. Please ask staff near you"), "No answer yet")
        }
    }
}

/// Seconds until the screen starts over.
#[must_use]
pub fn leaving(language: Language, seconds: u64) -> String {
    match language {
        Language::Korean => format!("{seconds}초 뒤 처음 화면으로 가요"),
        Language::English => format!("Starting over in {seconds} s"),
    }
}

/// Where a product stands; shelves are counted from the bottom, from 1.
#[must_use]
pub fn place(language: Language, gondola: u16, shelf: u16) -> String {
    match language {
        Language::Korean => format!("{gondola}번 진열대, 아래에서 {shelf}번째 칸"),
        Language::English => format!("Shelf unit {gondola}, level {shelf} from below"),
    }
}

/// A price as people read it.
#[must_use]
pub fn price(language: Language, price: Money) -> String {
    let decimals = price.currency.decimals();
    let scale = 10_u64.pow(decimals);
    let minor = price.minor.unsigned_abs();
    let mut text = grouped(minor / scale);
    if decimals > 0 {
        text = format!("{text}.{:0width$}", minor % scale, width = decimals as usize);
    }
    let sign = if price.minor < 0 { "-" } else { "" };
    match (price.currency.as_str(), language) {
        ("KRW", Language::Korean) => format!("{sign}{text}원"),
        ("KRW", Language::English) => format!("{sign}₩{text}"),
        ("EUR", _) => format!("{sign}€{text}"),
        ("USD", _) => format!("{sign}${text}"),
        (code, _) => format!("{sign}{text} {code}"),
    }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use engine::units::Currency;

    use super::*;

    #[test]
    fn who_comes_alone_is_no_party() {
        for language in [Language::Korean, Language::English] {
            let welcome = |remaining| notice(language, &Notice::Welcome { remaining });
            assert_eq!(welcome(1), welcome(0), "let in, and gone through");
            assert_ne!(welcome(2), welcome(1));
        }
    }

    #[test]
    fn prices_read_as_people_write_them() {
        let won = |minor| Money { minor, currency: Currency::KRW };
        let table = [
            (price(Language::Korean, won(900)), "900원"),
            (price(Language::Korean, won(1_234_567)), "1,234,567원"),
            (price(Language::English, won(2980)), "₩2,980"),
            (price(Language::English, won(-2980)), "-₩2,980"),
            (price(Language::English, Money { minor: 1205, currency: Currency::EUR }), "€12.05"),
        ];
        for (text, expected) in table {
            assert_eq!(text, expected);
        }
    }
}
