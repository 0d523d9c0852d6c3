//! The simulated palm scanner: the conformance suite, and the faults that only a simulator has.

use palm_scanner::sim::{HEIGHT, Sim, SimHandle, WIDTH};
use palm_scanner::{ErrorKind, Illumination, PalmScanner, Signal, conformance};

fn show(handle: &SimHandle, level: u8) {
    handle.present(&vec![level; usize::from(WIDTH) * usize::from(HEIGHT)]);
}

#[tokio::test]
async fn the_simulator_conforms() {
    let (mut scanner, mut handle) = Sim::new();
    conformance::check(&mut scanner, &mut handle).await;
}

#[tokio::test]
async fn a_slow_reader_gets_the_newest_frames_and_sees_the_gap() {
    let (mut scanner, handle) = Sim::new();
    scanner.arm(Illumination::Nm850).unwrap();
    for level in 0..10 {
        show(&handle, level);
    }
    for (sequence, level) in [(8, 8), (9, 9)] {
        let frame = scanner.next_frame().await.ok().unwrap();
        assert_eq!((frame.sequence, frame.data[0]), (sequence, level));
        assert_eq!(frame.device_ms, sequence * 33);
    }
}

#[tokio::test]
async fn numbers_go_on_after_the_byte_wraps() {
    let (mut scanner, handle) = Sim::new();
    scanner.arm(Illumination::Nm940).unwrap();
    for sequence in 0..600 {
        show(&handle, 1);
        assert_eq!(scanner.next_frame().await.ok().unwrap().sequence, sequence);
    }
}

#[tokio::test]
async fn damaged_frames_are_told_and_the_next_one_is_good() {
    let (mut scanner, handle) = Sim::new();
    scanner.arm(Illumination::Nm850).unwrap();
    for fault in [SimHandle::garble, SimHandle::cut] {
        fault(&handle);
        show(&handle, 3);
        let mut kinds = Vec::new();
        let good = loop {
            show(&handle, 4);
            match scanner.next_frame().await {
                Ok(frame) => break frame,
                Err(error) => kinds.push(error.kind()),
            }
        };
        assert!(!kinds.is_empty() && kinds.iter().all(|kind| *kind == ErrorKind::BadFrame), "{kinds:?}");
        assert!(good.data.iter().all(|value| *value == 4));
    }
}

#[tokio::test]
async fn the_handle_sees_light_and_ring() {
    let (mut scanner, handle) = Sim::new();
    assert_eq!((handle.armed(), handle.signal()), (None, None));
    scanner.arm(Illumination::Nm940).unwrap();
    scanner.signal(Signal::Bad).unwrap();
    assert_eq!((handle.armed(), handle.signal()), (Some(Illumination::Nm940), Some(Signal::Bad)));
    handle.unplug();
    assert_eq!((handle.armed(), handle.signal()), (None, None));
}

#[tokio::test]
async fn unplugging_wakes_a_reader_that_waits() {
    let (mut scanner, handle) = Sim::new();
    scanner.arm(Illumination::Nm850).unwrap();
    let reader = tokio::spawn(async move { scanner.next_frame().await.err().unwrap().kind() });
    tokio::task::yield_now().await;
    handle.unplug();
    assert_eq!(reader.await.unwrap(), ErrorKind::Disconnected);
}
