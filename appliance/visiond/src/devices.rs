//! The cameras that a role manifest may name: the one place that knows every kind.

use std::sync::Arc;

use camera::v4l2::{self, V4l2};
use camera::{Camera, Error, Frame};
use engine::units::CameraId;
use runtime::clock::Clock;
use runtime::manifest::CameraSettings;
use serde::Deserialize;

/// A camera as the manifest describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum DeviceSettings {
    /// A camera of the kernel.
    V4l2(v4l2::Settings),
}

/// A camera's table is not valid; the source names the key.
#[derive(Debug, thiserror::Error)]
#[error("camera {camera}: the device is not valid")]
pub struct BadCamera {
    /// Which.
    pub camera: CameraId,
    /// Why.
    #[source]
    pub source: Box<toml::de::Error>,
}

/// A camera of the kernel that may be missing when the service starts. Frames are stamped on the service's clock.
pub struct Wired {
    settings: Arc<v4l2::Settings>,
    clock: Clock,
    camera: Option<V4l2>,
}

/// The cameras of a manifest, for [`crate::run`].
///
/// # Errors
/// Names the camera and the key at fault.
pub fn cameras(settings: &[CameraSettings], clock: &Clock) -> Result<Vec<(CameraId, Wired)>, BadCamera> {
    settings
        .iter()
        .map(|CameraSettings { id, device }| {
            let camera = *id;
            let device = device.clone().try_into();
            let DeviceSettings::V4l2(settings) =
                device.map_err(|source| BadCamera { camera, source: Box::new(source) })?;
            Ok((camera, Wired { settings: Arc::new(settings), clock: clock.clone(), camera: None }))
        })
        .collect()
}

impl Camera for Wired {
    async fn next_frame(&mut self) -> Result<Frame, Error> {
        let camera = match &mut self.camera {
            Some(camera) => camera,
            none => {
                // Opening a USB camera takes the kernel tens of milliseconds.
                let settings = Arc::clone(&self.settings);
                let opened = tokio::task::spawn_blocking(move || v4l2::open(&settings)).await;
                let clock = self.clock.clone();
                let camera = opened.map_err(|_| Error::Disconnected)??;
                none.insert(camera.on_time_line(move || clock.now().0))
            }
        };
        camera.next_frame().await
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use camera::ErrorKind;

    use super::*;

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let settings = |device: &str| {
            vec![CameraSettings { id: CameraId(2), device: toml::from_str(device).expect("a table") }]
        };
        let good = "kind = \"v4l2\"\npath = \"/dev/v4l/by-path/none\"\nwidth = 640\nheight = 480\n";
        let mut cameras_of = cameras(&settings(good), &Clock::system()).expect("good settings");
        let error = cameras_of[0].1.next_frame().await.expect_err("no such camera");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        for (bad, named) in [(good.replace("v4l2", "v4l"), "v4l"), (good.replace("width", "widht"), "widht")]
        {
            let error = cameras(&settings(&bad), &Clock::system()).err().expect("refused");
            let text = format!("{error}: {}", error.source().expect("a cause"));
            assert!(text.contains("camera 2") && text.contains(named), "{text}");
        }
    }
}
