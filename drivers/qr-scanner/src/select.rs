//! Which of the box's devices is this lane's scanner.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A selection: everything that it names must fit. Two like scanners on one box are told apart by `usb_port`,
/// which survives restarts and exchanged scanners, or by `serial`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Select {
    /// Device node, or a link to one: `/dev/hidraw0`, `/dev/ttyS0`, `/dev/serial/by-id/…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// USB port that it is plugged into, as the kernel names it: `1-1.2` is port 2 of the hub on port 1 of bus 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usb_port: Option<String>,
    /// USB (or Bluetooth) vendor id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<u16>,
    /// USB (or Bluetooth) product id; a scanner often has one for each way it can be set to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<u16>,
    /// Serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

/// What a device says of itself and where it is plugged in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// USB port, `1-1.2`; none for a device on another bus.
    pub usb_port: Option<String>,
    /// Vendor id.
    pub vendor: Option<u16>,
    /// Product id.
    pub product: Option<u16>,
    /// Serial number; many scanners have none.
    pub serial: Option<String>,
}

impl Select {
    /// Whether it names anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a device of this identity fits what is named beside the path.
    #[must_use]
    pub fn fits(&self, identity: &Identity) -> bool {
        fn same<T: PartialEq>(wanted: Option<&T>, is: Option<&T>) -> bool {
            wanted.is_none() || wanted == is
        }
        same(self.usb_port.as_ref(), identity.usb_port.as_ref())
            && same(self.vendor.as_ref(), identity.vendor.as_ref())
            && same(self.product.as_ref(), identity.product.as_ref())
            && same(self.serial.as_ref(), identity.serial.as_ref())
    }

    /// Whether it names anything beside the path.
    #[must_use]
    pub fn names_identity(&self) -> bool {
        *self != Self { path: self.path.clone(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_named_must_fit() {
        let identity = Identity {
            usb_port: Some("1-1.2".into()),
            vendor: Some(0x0c2e),
            product: Some(0x0b6a),
            serial: Some("A1".into()),
        };
        let fits = |text: &str| toml::from_str::<Select>(text).unwrap().fits(&identity);
        let table = [
            ("", true),
            ("vendor = 0x0c2e", true),
            ("vendor = 0x0c2f", false),
            ("vendor = 0x0c2e\nproduct = 0x0b6a\nserial = 'A1'\nusb_port = '1-1.2'", true),
            ("vendor = 0x0c2e\nproduct = 0x0b6b", false),
            ("serial = 'A2'", false),
            ("usb_port = '1-1'", false),
            ("path = '/dev/hidraw0'", true),
        ];
        for (text, want) in table {
            assert_eq!(fits(text), want, "{text}");
        }
        assert!(!toml::from_str::<Select>("serial = 'A1'").unwrap().fits(&Identity::default()));
        assert!(toml::from_str::<Select>("vendour = 1").is_err());
        let path: Select = toml::from_str("path = '/dev/x'").unwrap();
        assert!(!path.is_empty() && !path.names_identity());
        assert!(toml::from_str::<Select>("vendor = 1").unwrap().names_identity());
    }
}
