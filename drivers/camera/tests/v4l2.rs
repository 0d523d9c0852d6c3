//! The V4L2 transport on a real device node, where there is one: `STILE_CAMERA` names it, as with the kernel's
//! `vivid` in the virtual machine.

use std::fs::File;

use camera::v4l2::{Settings, V4l2, open};
use camera::{Camera, Error, ErrorKind, conformance};
use rustix::ioctl::{Setter, ioctl, opcode};
use v4l::control::{Control, Value};

/// Buttons of the kernel's `vivid` (drivers/media/test-drivers/vivid/vivid-ctrls.c): the next frame is marked
/// as damaged, the next buffer is not taken, the stream fails for good.
const DAMAGE_FRAME: u32 = 0x00f0_f000 + 66;
const REFUSE_BUFFER: u32 = 0x00f0_f000 + 68;
const FAIL_STREAM: u32 = 0x00f0_f000 + 70;

fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    since.as_millis().try_into().expect("before the year 584556019")
}

/// Settings for the named device, or nothing.
fn settings() -> Option<Settings> {
    let path = std::env::var("STILE_CAMERA").ok()?;
    let of = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let text = format!(
        "path = \"{path}\"\nformat = \"{}\"\nwidth = {}\nheight = {}\nframes_per_s = {}\n",
        of("STILE_CAMERA_FORMAT", "yuyv"),
        of("STILE_CAMERA_WIDTH", "640"),
        of("STILE_CAMERA_HEIGHT", "360"),
        of("STILE_CAMERA_RATE", "10"),
    );
    Some(toml::from_str(&text).expect("STILE_CAMERA settings"))
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let Some(settings) = settings() else {
        println!("skipped: STILE_CAMERA names no video device");
        return;
    };
    let mut camera = open(&settings).unwrap();
    assert_eq!(open(&settings).map(drop).unwrap_err().kind(), ErrorKind::Busy, "one stream a camera");
    conformance::check_streaming(&mut camera, wall_ms).await;
    println!("lost {} frames", camera.lost());
    drop(camera);

    // Straight after a close it opens again, and on another time line.
    let mut camera = open(&settings).unwrap().on_time_line(|| 5_000_000);
    let frame = camera.next_frame().await.unwrap();
    assert!((4_990_000..=5_000_000).contains(&frame.captured_ms), "{}", frame.captured_ms);
    drop(camera);

    let odd = Settings { width: 639, height: 361, ..settings };
    match open(&odd).map(drop) {
        Err(Error::Unsupported { what, .. }) => println!("refused: {what}"),
        other => panic!("639x361 is no size of a camera, but: {other:?}"),
    }
}

/// The next frame; an error of which the camera recovers is returned, too.
async fn soon(camera: &mut V4l2) -> Result<camera::Frame, Error> {
    let patience = std::time::Duration::from_secs(15);
    tokio::time::timeout(patience, camera.next_frame()).await.expect("an answer in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn survives_what_the_kernel_refuses() {
    let Some(settings) = settings() else {
        println!("skipped: STILE_CAMERA names no video device");
        return;
    };
    let device = v4l::Device::with_path(&settings.path).unwrap();
    if device.query_caps().unwrap().driver != "vivid" {
        println!("skipped: STILE_CAMERA is not vivid, which fails at will");
        return;
    }
    let press = |id| device.set_control(Control { id, value: Value::Integer(1) }).unwrap();
    let mut camera = open(&settings).unwrap();
    let mut before = soon(&mut camera).await.unwrap();
    press(DAMAGE_FRAME);
    let mut missing = 0;
    for _ in 0..6 {
        let frame = soon(&mut camera).await.expect("a damaged frame is left out");
        missing += frame.sequence - before.sequence - 1;
        before = frame;
    }
    assert!(missing >= 1 && camera.lost() == u64::from(missing), "{missing} {}", camera.lost());

    for (button, name) in [(REFUSE_BUFFER, "a refused buffer"), (FAIL_STREAM, "a failed stream")] {
        press(button);
        let mut frames = 0;
        let error = loop {
            match soon(&mut camera).await {
                Ok(_) if frames < 20 => frames += 1,
                Ok(_) => panic!("{name} is not told"),
                Err(error) => break error,
            }
        };
        println!("{name}: {error}");
        soon(&mut camera).await.expect("opened anew");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_the_kernel_does_not_let_stop_ends_later() {
    let Some(settings) = settings() else {
        println!("skipped: STILE_CAMERA names no video device");
        return;
    };
    let mut camera = open(&settings).unwrap();
    soon(&mut camera).await.unwrap();
    let other = File::options().read(true).write(true).open(&settings.path).unwrap();
    claim(&other);
    // Nor are its buffers taken back now.
    drop(camera);
    assert_eq!(open(&settings).map(drop).unwrap_err().kind(), ErrorKind::Busy);
    drop(other);
    soon(&mut open(&settings).unwrap()).await.unwrap();
}

/// Claims the priority of a recording: nobody else may change or stop anything then.
#[expect(unsafe_code, reason = "an ioctl of the kernel")]
fn claim(device: &File) {
    const RECORD: u32 = 3;
    // SAFETY: VIDIOC_S_PRIORITY reads one 32-bit number.
    let claimed = unsafe { ioctl(device, Setter::<{ opcode::write::<u32>(b'V', 68) }, u32>::new(RECORD)) };
    assert_eq!(claimed, Ok(()));
}

#[tokio::test]
async fn a_camera_that_is_not_there_is_not_found() {
    let text = "path = \"/dev/v4l/by-path/no-such-camera\"\nwidth = 640\nheight = 480";
    assert_eq!(open(&toml::from_str(text).unwrap()).map(drop).unwrap_err().kind(), ErrorKind::NotFound);
}
