//! The reports of a HID device by interrupt transfers through usbfs, for interfaces that no kernel driver
//! holds, or that are taken from it.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nusb::descriptors::TransferType;
use nusb::transfer::{
    Completion, ControlIn, ControlOut, ControlType, Direction, In, Interrupt, Out, Recipient, TransferError,
};
use nusb::{DeviceInfo, Endpoint, Interface, MaybeFuture};

use crate::beeper::Write;
use crate::codec::descriptor::DESCRIPTOR_MAX;
use crate::codec::report::{Layout, Output};
use crate::select::{Identity, Select};
use crate::{Error, ErrorKind, sysfs};

/// Transfers kept in flight, so that no report is missed between two: a code of 455 digits is 9 reports, and
/// the host fetches one a (micro)frame at best.
const TRANSFERS: usize = 8;
/// Failed transfers in a row, stalls or line faults, after which the device is given up.
const FAILURES_MAX: u32 = 8;
/// Time for a control transfer; USB 2.0 section 9.2.6.4 gives a device 5 s, a scanner that is alive takes
/// milliseconds.
const CONTROL_TIMEOUT: Duration = Duration::from_millis(1000);
/// Longest report taken, rounded up to packets: what interrupt endpoints carry at high speed.
const REPORT_MAX: usize = 1024;

const CLASS_HID: u8 = 0x03;
const SUBCLASS_BOOT: u8 = 0x01;
const DESCRIPTOR_HID: u8 = 0x21;
const DESCRIPTOR_REPORT: u8 = 0x22;
const GET_DESCRIPTOR: u8 = 0x06;
const SET_REPORT: u8 = 0x09;

pub(crate) struct Usb {
    interface: Interface,
    input: Endpoint<Interrupt, In>,
    /// Reports that arrived while a stall was cleared.
    arrived: VecDeque<Vec<u8>>,
    /// The endpoint stalled and is not cleared yet.
    halted: bool,
    failures: Failures,
}

/// Counts failed transfers in a row.
#[derive(Debug, Default)]
struct Failures(u32);

/// What to do about a failed transfer.
#[derive(Debug, PartialEq, Eq)]
enum Remedy {
    /// Take the next one.
    GoOn,
    /// Clear the halt first.
    ClearHalt,
    /// The device is gone, or as good as gone.
    GiveUp,
}

impl Failures {
    fn count(&mut self, error: TransferError) -> Remedy {
        self.0 += 1;
        match error {
            _ if self.0 >= FAILURES_MAX => Remedy::GiveUp,
            TransferError::Stall => Remedy::ClearHalt,
            // The line was disturbed, or the device is being unplugged, which is told next.
            TransferError::Fault | TransferError::Unknown(_) => Remedy::GoOn,
            TransferError::Disconnected | TransferError::Cancelled | TransferError::InvalidArgument => {
                Remedy::GiveUp
            }
        }
    }

    fn forget(&mut self) {
        self.0 = 0;
    }
}

/// One HID interface of one device.
struct Candidate {
    info: DeviceInfo,
    interface: u8,
    /// A keyboard or mouse for firmware: not a POS interface, unless there is no other.
    is_boot: bool,
    driver: Option<String>,
}

impl Usb {
    /// Claims the interface that the selection means; with `detach` it is taken from the kernel's driver, which
    /// gets it back when the scanner is closed.
    pub(crate) fn open(select: &Select, detach: bool) -> Result<Self, Error> {
        let chosen = choose(select, detach)?;
        let device = chosen.info.open().wait().map_err(opening)?;
        let claimed = if chosen.driver.is_some() {
            device.detach_and_claim_interface(chosen.interface).wait()
        } else {
            device.claim_interface(chosen.interface).wait()
        };
        let interface = claimed.map_err(opening)?;
        let address = endpoint(&interface, Direction::In)
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "open", None))?;
        let input = interface.endpoint::<Interrupt, In>(address).map_err(opening)?;
        Ok(Self { interface, input, arrived: VecDeque::new(), halted: false, failures: Failures::default() })
    }

    /// Asks the device for its report descriptor. Cancel-safe.
    pub(crate) async fn descriptor(&self) -> Result<Vec<u8>, Error> {
        let length = self.interface.descriptor().and_then(|interface| {
            let found = interface.descriptors().find(|found| found.descriptor_type() == DESCRIPTOR_HID)?;
            // HID 1.11 section 6.2.1: wDescriptorLength of the first class descriptor, the report descriptor.
            Some(u16::from_le_bytes([*found.get(7)?, *found.get(8)?]))
        });
        let request = ControlIn {
            control_type: ControlType::Standard,
            recipient: Recipient::Interface,
            request: GET_DESCRIPTOR,
            value: u16::from(DESCRIPTOR_REPORT) << 8,
            index: u16::from(self.interface.interface_number()),
            length: length.unwrap_or(DESCRIPTOR_MAX as u16).min(DESCRIPTOR_MAX as u16),
        };
        let answer = self.interface.control_in(request, CONTROL_TIMEOUT).await;
        answer.map_err(|error| match error {
            TransferError::Disconnected => Error::lost("open", error),
            other => Error::new(ErrorKind::Io, "open", Some(crate::Cause::Io(other.into()))),
        })
    }

    /// The next input report. Cancel-safe: what must not be lost is kept in `self`.
    pub(crate) async fn read(&mut self) -> Result<Vec<u8>, Error> {
        loop {
            if let Some(report) = self.arrived.pop_front() {
                return Ok(report);
            }
            if self.halted {
                self.clear_halt().await?;
            }
            while self.input.pending() < TRANSFERS {
                let packet = self.input.max_packet_size().max(1);
                self.input.submit(self.input.allocate(REPORT_MAX.next_multiple_of(packet)));
            }
            let completion = self.input.next_complete().await;
            self.take(completion)?;
        }
    }

    /// A stalled endpoint: takes back what is in flight, then tells the device to go on.
    async fn clear_halt(&mut self) -> Result<(), Error> {
        self.input.cancel_all();
        while self.input.pending() > 0 {
            let completion = self.input.next_complete().await;
            if completion.status.is_ok() {
                self.arrived.push_back(completion.buffer.to_vec());
            }
        }
        self.input.clear_halt().await.map_err(|error| Error::lost("read", error))?;
        self.halted = false;
        Ok(())
    }

    fn take(&mut self, completion: Completion) -> Result<(), Error> {
        let Err(error) = completion.status else {
            self.failures.forget();
            if completion.actual_len > 0 {
                self.arrived.push_back(completion.buffer.to_vec());
            }
            return Ok(());
        };
        match self.failures.count(error) {
            Remedy::GoOn => {}
            Remedy::ClearHalt => self.halted = true,
            Remedy::GiveUp => return Err(Error::lost("read", error)),
        }
        Ok(())
    }

    /// Writes by the interrupt endpoint where there is one (HID 1.11 section 4.4), else by SET_REPORT.
    pub(crate) fn writer(&self) -> Result<Write, Error> {
        let interface = self.interface.clone();
        let address = endpoint(&interface, Direction::Out);
        let mut output = match address {
            Some(address) => Some(interface.endpoint::<Interrupt, Out>(address).map_err(opening)?),
            None => None,
        };
        Ok(Box::new(move |report: &Output| match &mut output {
            Some(endpoint) if !report.feature => {
                // An id of 0 stands for none, and is not sent.
                let bytes = report.bytes.strip_prefix(&[0]).unwrap_or(&report.bytes);
                let done = endpoint.transfer_blocking(bytes.to_vec().into(), CONTROL_TIMEOUT);
                if done.status == Err(TransferError::Stall) {
                    endpoint.clear_halt().wait().map_err(io::Error::from)?;
                    return Ok(());
                }
                done.status.map_err(io::Error::from)
            }
            _ => set_report(&interface, report),
        }))
    }
}

fn set_report(interface: &Interface, report: &Output) -> io::Result<()> {
    let id = report.bytes.first().copied().unwrap_or(0);
    let kind = if report.feature { 3 } else { 2 };
    let request = ControlOut {
        control_type: ControlType::Class,
        recipient: Recipient::Interface,
        request: SET_REPORT,
        value: kind << 8 | u16::from(id),
        index: u16::from(interface.interface_number()),
        data: report.bytes.strip_prefix(&[0]).unwrap_or(&report.bytes),
    };
    match interface.control_out(request, CONTROL_TIMEOUT).wait() {
        // It refuses to beep: that is no reason to give the scanner up.
        Ok(()) | Err(TransferError::Stall) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn endpoint(interface: &Interface, direction: Direction) -> Option<u8> {
    let descriptor = interface.descriptor()?;
    let mut endpoints = descriptor.endpoints();
    let is_wanted = |transfer: TransferType, way| transfer == TransferType::Interrupt && way == direction;
    let found = endpoints.find(|endpoint| is_wanted(endpoint.transfer_type(), endpoint.direction()))?;
    Some(found.address())
}

fn choose(select: &Select, detach: bool) -> Result<Candidate, Error> {
    if select.path.is_some() {
        // A node's path says nothing about usbfs.
        return Err(Error::new(ErrorKind::NotFound, "open", None));
    }
    let devices = nusb::list_devices().wait().map_err(opening)?;
    let fitting = devices.filter(|info| select.fits(&identity(info)));
    let mut candidates: Vec<Candidate> = fitting.filter_map(|info| first_interface(info, detach)).collect();
    if candidates.iter().any(|candidate| !candidate.is_boot) {
        candidates.retain(|candidate| !candidate.is_boot);
    }
    let names: Vec<String> =
        candidates.iter().map(|candidate| identity(&candidate.info).usb_port.unwrap_or_default()).collect();
    match candidates.pop() {
        Some(chosen) if candidates.is_empty() => Ok(chosen),
        Some(_) => Err(sysfs::ambiguous(&names)),
        None => Err(Error::new(ErrorKind::NotFound, "open", None)),
    }
}

/// The interface of a device that is a scanner for all that is known without asking it.
fn first_interface(info: DeviceInfo, detach: bool) -> Option<Candidate> {
    let mut interfaces: Vec<Candidate> = info
        .interfaces()
        .filter(|interface| interface.class() == CLASS_HID)
        .filter_map(|interface| {
            let number = interface.interface_number();
            let folder = interface_folder(&info, number);
            let driver = folder.as_deref().and_then(driver);
            if driver.is_some() && !detach {
                return None;
            }
            // While a driver holds it, sysfs has its descriptor; an unknown one is asked for when it is open.
            let descriptor = folder.as_deref().and_then(report_descriptor);
            if descriptor.is_some_and(|descriptor| Layout::parse(&descriptor).is_err()) {
                return None;
            }
            let is_boot = interface.subclass() == SUBCLASS_BOOT;
            Some(Candidate { info: info.clone(), interface: number, is_boot, driver })
        })
        .collect();
    interfaces.sort_by_key(|candidate| (candidate.is_boot, candidate.interface));
    interfaces.into_iter().next()
}

fn identity(info: &DeviceInfo) -> Identity {
    Identity {
        usb_port: info.sysfs_path().file_name().and_then(|name| name.to_str()).map(str::to_owned),
        vendor: Some(info.vendor_id()),
        product: Some(info.product_id()),
        serial: info.serial_number().map(str::to_owned),
    }
}

/// `1-1.2/1-1.2:1.0` below the device: configuration 1, interface 0.
fn interface_folder(info: &DeviceInfo, number: u8) -> Option<PathBuf> {
    let ending = format!(".{number}");
    let entries = fs::read_dir(info.sysfs_path()).ok()?;
    entries.flatten().map(|entry| entry.path()).find(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.split_once(':').is_some_and(|(_, rest)| rest.ends_with(&ending)))
    })
}

fn driver(folder: &Path) -> Option<String> {
    let driver = fs::read_link(folder.join("driver")).ok()?;
    // The driver of interfaces that a program holds through usbfs.
    driver.file_name().and_then(|name| name.to_str()).filter(|name| *name != "usbfs").map(str::to_owned)
}

fn report_descriptor(folder: &Path) -> Option<Vec<u8>> {
    let entries = fs::read_dir(folder).ok()?;
    entries.flatten().find_map(|entry| sysfs::bytes(&entry.path(), "report_descriptor"))
}

fn opening(error: nusb::Error) -> Error {
    let kind = match error.kind() {
        nusb::ErrorKind::Busy => ErrorKind::Busy,
        nusb::ErrorKind::NotFound | nusb::ErrorKind::Disconnected => ErrorKind::NotFound,
        _ => ErrorKind::Io,
    };
    Error::new(kind, "open", Some(crate::Cause::Io(error.into())))
}

impl std::fmt::Debug for Usb {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Usb")
            .field("interface", &self.interface.interface_number())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_are_cleared_and_bounded() {
        let mut failures = Failures::default();
        for _ in 1..FAILURES_MAX {
            assert_eq!(failures.count(TransferError::Stall), Remedy::ClearHalt);
        }
        assert_eq!(failures.count(TransferError::Stall), Remedy::GiveUp);
        failures.forget();
        assert_eq!(
            failures.count(TransferError::Fault),
            Remedy::GoOn,
            "a report in between starts the count anew"
        );
        assert_eq!(failures.count(TransferError::Stall), Remedy::ClearHalt);
        assert_eq!(failures.count(TransferError::Disconnected), Remedy::GiveUp);
        let faults = (0..)
            .map(|_| TransferError::Unknown(71))
            .scan(Failures::default(), |failures, error| Some(failures.count(error)));
        assert_eq!(faults.take_while(|remedy| *remedy == Remedy::GoOn).count(), FAILURES_MAX as usize - 1);
    }
}
