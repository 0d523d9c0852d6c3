//! The V4L2 transport on a real device node, where there is one: `STILE_CAMERA` names it, as with the kernel's
//! `vivid` in the virtual machine.

use camera::v4l2::{Settings, open};
use camera::{Camera, Error, ErrorKind, conformance};

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

#[tokio::test]
async fn a_camera_that_is_not_there_is_not_found() {
    let text = "path = \"/dev/v4l/by-path/no-such-camera\"\nwidth = 640\nheight = 480";
    assert_eq!(open(&toml::from_str(text).unwrap()).map(drop).unwrap_err().kind(), ErrorKind::NotFound);
}
