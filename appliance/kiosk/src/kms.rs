//! The screen of a box, without a desktop: Slint's linuxkms backend with the software renderer.

use std::path::Path;

use input::Event;
use input::event::DeviceEvent;
use input::event::EventTrait as _;
use slint::{BackendSelector, PlatformError};

/// The environment variable by which the backend learns how far to turn the picture.
pub const ROTATION: &str = "SLINT_KMS_ROTATION";
/// Where the kernel tells of the display's connectors.
const CONNECTORS: &str = "/sys/class/drm";

/// Makes the first connected display the program's screen; touches follow its `rotation`, degrees clockwise. Must be
/// called on the process's first thread, before any window, with [`ROTATION`] in the environment.
///
/// Keyboards are left alone: the backend ends its loop at Ctrl-Alt-Del, and what a scanner types is nobody's
/// business here.
///
/// # Errors
/// Slint refuses the backend. Whether there is a display shows when the first window opens.
pub fn take(rotation: u16) -> Result<(), PlatformError> {
    BackendSelector::new()
        .backend_name("linuxkms".to_owned())
        .renderer_name("software".to_owned())
        .with_libinput_event_hook(move |event| swallowed(event, rotation))
        .select()
}

fn swallowed(event: &Event, rotation: u16) -> bool {
    match event {
        Event::Keyboard(_) => true,
        Event::Device(DeviceEvent::Added(added)) => {
            let mut device = added.device();
            if let Some(matrix) = touch_matrix(rotation)
                && device.config_calibration_has_matrix()
                && device.config_calibration_set_matrix(matrix).is_err()
            {
                tracing::warn!(device = %device.name(), "touches cannot be turned with the picture");
            }
            false
        }
        _ => false,
    }
}

/// From shares of the panel to shares of the turned picture, as libinput wants it: the upper two rows of a 3 x 3
/// matrix. `None` where the picture is not turned.
fn touch_matrix(rotation: u16) -> Option<[f32; 6]> {
    match rotation {
        90 => Some([0.0, 1.0, 0.0, -1.0, 0.0, 1.0]),
        180 => Some([-1.0, 0.0, 1.0, 0.0, -1.0, 1.0]),
        270 => Some([0.0, -1.0, 1.0, 1.0, 0.0, 0.0]),
        _ => None,
    }
}

/// The connectors that have a display, by name, in order. Slint looks at them once: when they change, the program
/// must start again.
#[must_use]
pub fn connected() -> Vec<String> {
    connected_in(Path::new(CONNECTORS))
}

fn connected_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| {
            std::fs::read_to_string(entry.path().join("status"))
                .is_ok_and(|status| status.trim() == "connected")
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a point of the picture is on the panel when the picture is turned clockwise.
    fn on_panel(rotation: u16, [x, y]: [f32; 2]) -> [f32; 2] {
        match rotation {
            90 => [1.0 - y, x],
            180 => [1.0 - x, 1.0 - y],
            270 => [y, 1.0 - x],
            _ => [x, y],
        }
    }

    #[test]
    fn a_touch_lands_where_the_finger_is() {
        for rotation in [0, 90, 180, 270] {
            let [a, b, c, d, e, f] = touch_matrix(rotation).unwrap_or([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
            for point in [[0.0, 0.0], [1.0, 0.0], [0.25, 0.75]] {
                let [u, v] = on_panel(rotation, point);
                assert_eq!([a * u + b * v + c, d * u + e * v + f], point, "{rotation}");
            }
        }
    }

    #[test]
    fn connectors_are_read() {
        let folder = tempfile::tempdir().unwrap();
        for (name, status) in [("card0-HDMI-A-1", "connected\n"), ("card0-DP-1", "disconnected\n")] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join("status"), status).unwrap();
        }
        std::fs::create_dir(folder.path().join("card0")).unwrap();
        assert_eq!(connected_in(folder.path()), ["card0-HDMI-A-1"]);
        assert!(connected_in(&folder.path().join("nowhere")).is_empty());
    }
}
