//! The simulated camera: the conformance suite, and the faults that only a simulator has.

use camera::sim::Sim;
use camera::{Camera, ErrorKind, Format, Rgb, codec, conformance};

#[tokio::test]
async fn the_simulator_conforms_in_every_format() {
    for format in [Format::Yuyv, Format::Mjpeg, Format::Grey] {
        let (mut camera, mut handle) = Sim::new(48, 32, format);
        conformance::check(&mut camera, &mut handle).await;
    }
}

#[tokio::test]
async fn unplugging_wakes_a_reader_that_waits() {
    let (mut camera, handle) = Sim::new(8, 8, Format::Grey);
    let reader = tokio::spawn(async move { camera.next_frame().await.unwrap_err().kind() });
    tokio::task::yield_now().await;
    handle.unplug();
    assert_eq!(reader.await.unwrap(), ErrorKind::Disconnected);
}

#[tokio::test]
async fn a_covered_lens_gives_black_frames() {
    let (mut camera, handle) = Sim::new(8, 8, Format::Yuyv);
    let mut picture = Rgb::new(8, 8);
    picture.data.fill(180);
    handle.dark(true);
    handle.push(&picture, 1);
    let black = codec::decode(&camera.next_frame().await.unwrap()).unwrap();
    assert!(black.data.iter().all(|value| *value == 0));
    handle.dark(false);
    handle.push(&picture, 2);
    let grey = codec::decode(&camera.next_frame().await.unwrap()).unwrap();
    assert!(grey.data.iter().all(|value| value.abs_diff(180) <= 2));
}

#[tokio::test]
async fn lost_exposures_leave_a_gap_in_the_numbers() {
    let (mut camera, handle) = Sim::new(8, 8, Format::Grey);
    let picture = Rgb::new(8, 8);
    handle.push(&picture, 1);
    handle.drop_next(2);
    for ms in 2..5 {
        handle.push(&picture, ms);
    }
    assert_eq!(camera.next_frame().await.unwrap().sequence, 0);
    let after = camera.next_frame().await.unwrap();
    assert_eq!((after.sequence, after.captured_ms), (3, 4));
}

#[tokio::test]
async fn a_broken_frame_is_an_error_of_that_frame_only() {
    let (mut camera, handle) = Sim::new(8, 8, Format::Yuyv);
    handle.push_bytes(vec![0; 5], 1);
    handle.push(&Rgb::new(8, 8), 2);
    let broken = camera.next_frame().await.unwrap();
    assert_eq!(codec::decode(&broken).unwrap_err().kind(), ErrorKind::BadFrame);
    let good = camera.next_frame().await.unwrap();
    codec::decode(&good).unwrap();
}
