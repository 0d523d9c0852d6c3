//! A simulated camera as a scanner, with real workers.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::PathBuf;
use std::time::Duration;

use camera::Format;
use camera::sim::{Sim, SimHandle};
use code_reader::CameraScanner;
use code_reader::worker::{Program, Settings};
use image::{GrayImage, Luma};
use qr_scanner::{ErrorKind, QrScanner, Signal};
use rustix::process::{Pid, Signal as KernelSignal, kill_process};
use zxingcpp::{BarcodeCreator, BarcodeFormat, BarcodeWriter};

const SIDE: u32 = 320;
const GONE: Duration = Duration::from_secs(1);

fn scanner(format: Format) -> (CameraScanner<Sim>, SimHandle) {
    let (camera, handle) = Sim::new(SIDE, SIDE, format);
    let program = Program { path: PathBuf::from(env!("CARGO_BIN_EXE_code-reader")), arguments: Vec::new() };
    // Patience with a busy machine: no frame of these is hard.
    let settings = Settings { deadline: Duration::from_secs(10), ..Settings::frames(program) };
    (CameraScanner::new(camera, settings, Duration::from_secs(1), GONE).unwrap(), handle)
}

fn frame(texts: &[&str]) -> camera::Rgb {
    let mut sheet = GrayImage::from_pixel(SIDE, SIDE, Luma([230]));
    for (index, text) in texts.iter().enumerate() {
        let code = BarcodeCreator::new(BarcodeFormat::QRCode).from_str(text).unwrap();
        let drawn = code.to_image_with(&BarcodeWriter::new().scale(4).add_quiet_zones(true)).unwrap();
        let drawn = GrayImage::from_raw(drawn.width() as u32, drawn.height() as u32, drawn.data()).unwrap();
        image::imageops::overlay(&mut sheet, &drawn, 10 + 160 * index as i64, 10);
    }
    let data = sheet.as_raw().iter().flat_map(|grey| [*grey; 3]).collect();
    camera::Rgb { width: SIDE, height: SIDE, data }
}

/// What is reported until `frames` more frames were answered.
async fn reported(scanner: &mut CameraScanner<Sim>, frames: usize) -> Vec<String> {
    let status = scanner.status();
    let until = status().timings.len() + frames;
    let mut texts = Vec::new();
    while status().timings.len() < until {
        if let Ok(scan) = tokio::time::timeout(Duration::from_millis(5), scanner.next_scan()).await {
            let scan = scan.unwrap();
            assert_eq!(&scan.aim[..2], b"]Q");
            texts.push(String::from_utf8(scan.text).unwrap());
        }
    }
    // The last answer is on its way by now, and needs one more look.
    while let Ok(scan) = tokio::time::timeout(Duration::from_millis(5), scanner.next_scan()).await {
        texts.push(String::from_utf8(scan.unwrap().text).unwrap());
    }
    texts
}

#[tokio::test]
async fn a_show_is_reported_once_and_the_next_one_again() {
    for format in [Format::Grey, Format::Yuyv, Format::Mjpeg] {
        let (mut scanner, camera) = scanner(format);
        camera.push(&frame(&["first"]), 0);
        assert_eq!(reported(&mut scanner, 1).await, ["first"], "{format}");
        for ms in [33, 66, 100] {
            camera.push(&frame(&["first"]), ms);
            assert!(reported(&mut scanner, 1).await.is_empty(), "{format}");
        }
        // Another code at once; the first again within a second; and after it.
        camera.push(&frame(&["second"]), 133);
        assert_eq!(reported(&mut scanner, 1).await, ["second"]);
        camera.push(&frame(&["first"]), 900);
        assert!(reported(&mut scanner, 1).await.is_empty());
        camera.push(&frame(&[]), 1_500);
        assert!(reported(&mut scanner, 1).await.is_empty());
        camera.push(&frame(&["first"]), 2_000);
        assert_eq!(reported(&mut scanner, 1).await, ["first"]);
        scanner.signal(Signal::Good).unwrap();
    }
}

#[tokio::test]
async fn a_killed_worker_costs_a_frame_and_is_counted() {
    let (mut scanner, camera) = scanner(Format::Grey);
    let status = scanner.status();
    camera.push(&frame(&[]), 0);
    reported(&mut scanner, 1).await;
    let worker = status().worker.process.unwrap();
    kill_process(Pid::from_raw(worker as i32).unwrap(), KernelSignal::KILL).unwrap();
    for ms in 1..200 {
        camera.push(&frame(&["after all"]), ms * 33);
        let scan = tokio::time::timeout(Duration::from_millis(200), scanner.next_scan()).await;
        if let Ok(scan) = scan {
            assert_eq!(scan.unwrap().text, b"after all");
            let health = status().worker;
            assert_eq!((health.crashes, health.starts), (1, 2), "{health}");
            assert_ne!(health.process, Some(worker));
            return;
        }
    }
    panic!("never read: {}", status().worker);
}

#[tokio::test]
async fn a_camera_that_goes_is_an_error_and_a_bad_frame_is_none() {
    let (mut scanner, camera) = scanner(Format::Mjpeg);
    camera.push_bytes(vec![1, 2, 3], 0);
    camera.push(&frame(&["behind a bad frame"]), 33);
    assert_eq!(scanner.next_scan().await.unwrap().text, b"behind a bad frame");
    camera.unplug();
    assert_eq!(scanner.next_scan().await.unwrap_err().kind(), ErrorKind::Disconnected);
}

#[tokio::test]
async fn without_its_program_it_is_no_scanner() {
    let (camera, handle) = Sim::new(SIDE, SIDE, Format::Grey);
    let program = Program { path: "/nowhere/code-reader".into(), arguments: Vec::new() };
    let settings = Settings::frames(program);
    let mut scanner = CameraScanner::new(camera, settings, Duration::from_millis(20), GONE).unwrap();
    handle.push(&frame(&["nobody reads this"]), 0);
    let error = loop {
        // A frame may fall into the pause after the failed start.
        match tokio::time::timeout(Duration::from_millis(50), scanner.next_scan()).await {
            Ok(result) => break result.unwrap_err(),
            Err(_) => handle.push(&frame(&["nor this"]), 33),
        }
    };
    assert_eq!(error.kind(), ErrorKind::Io);
}
