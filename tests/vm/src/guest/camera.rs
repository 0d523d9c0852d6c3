//! A camera whose cable is pulled while it streams (the conformance suite belongs to the driver and is a step of
//! its own).

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use camera::v4l2::{Settings, open};
use camera::{Camera, ErrorKind};

use crate::figure::Figure;
use crate::say;

const DRIVER: &str = "/sys/bus/platform/drivers/vivid";
const DEVICE: &str = "vivid.0";
/// The driver's own patience with a silent camera is 5 s.
const LOSS_MAX: Duration = Duration::from_secs(8);
const BACK_MAX: Duration = Duration::from_secs(15);
const TIMES: usize = 3;

/// Pulls the camera and puts it back, some times.
pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(pull())
}

async fn pull() -> Result<()> {
    let text = "path = \"/dev/video0\"\nformat = \"grey\"\nwidth = 640\nheight = 360\nframes_per_s = 10";
    let settings: Settings = toml::from_str(text).context("settings of the camera")?;
    let mut camera = open(&settings).context("cannot open the camera")?;
    let (mut lost, mut back) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        for _ in 0..5 {
            camera.next_frame().await.context("no frame")?;
        }
        let began = Instant::now();
        fs::write(format!("{DRIVER}/unbind"), DEVICE).context("cannot pull the camera")?;
        lost.push(disconnected(&mut camera, began).await?);
        let began = Instant::now();
        fs::write(format!("{DRIVER}/bind"), DEVICE).context("cannot put the camera back")?;
        while let Err(error) = camera.next_frame().await {
            ensure!(began.elapsed() < BACK_MAX, "no frame since the camera is back: {error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        back.push(began.elapsed());
    }
    say(&Figure::of("camera pulled to its loss told", lost).line());
    say(&Figure::of("camera back to its next frame", back).line());
    Ok(())
}

async fn disconnected(camera: &mut impl Camera, began: Instant) -> Result<Duration> {
    loop {
        match tokio::time::timeout(LOSS_MAX, camera.next_frame()).await {
            Ok(Err(error)) if error.kind() == ErrorKind::Disconnected => return Ok(began.elapsed()),
            // What was under way when the cable was pulled.
            Ok(Ok(_)) if began.elapsed() < LOSS_MAX => {}
            Ok(Err(error)) if error.kind() == ErrorKind::BadFrame => {}
            Ok(Ok(_)) => bail!("a camera that is not there goes on"),
            Ok(Err(error)) => return Err(error).context("a pulled camera is Disconnected"),
            Err(_) => bail!("nothing is told of a pulled camera"),
        }
    }
}
