//! The service on simulated cameras, a scripted detector and paused time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use camera::sim::{Sim, SimHandle};
use camera::{Format, Rgb};
use engine::floor::camera::CameraModel;
use engine::message::{FloorView, Health, HealthState, topic};
use engine::store::{Camera, Lane, StoreMap};
use engine::time::Instant;
use engine::units::{CameraId, LaneId};
use recognition::{Detect, Detection, Error, Scripted};
use runtime::bus::{Bus, Subscription};
use runtime::clock::Clock;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use visiond::{Counters, Settings};

const START: u64 = 1_800_000_000_000;
/// Colours of pictures, which tell the test's detector where the frame comes from and when.
const GREY: u8 = 100;

fn map(cameras: u16) -> StoreMap {
    let poses = [([1.5, 1.0], [2.5, 2.5]), ([4.5, 1.0], [3.5, 2.5]), ([3.0, 4.5], [3.0, 2.5])];
    let cameras = poses.into_iter().zip(0..cameras).map(|((at, to), id)| Camera {
        id: CameraId(id),
        model: CameraModel::looking_at(
            [320, 192],
            1.9,
            [at[0], at[1], 3.0],
            [to[0], to[1], 0.0],
            [0.0, 0.0, 1.0],
        ),
    });
    let lane = Lane {
        id: LaneId::from("entry-1"),
        position: [3.0, 0.7],
        inward: [0.0, 1.0],
        entry: true,
        exit: true,
    };
    StoreMap {
        name: "test".to_owned(),
        bounds: [0.0, 0.0, 6.0, 5.0],
        gondolas: Vec::new(),
        lanes: vec![lane],
        cameras: cameras.collect(),
        plates: Vec::new(),
        products: Vec::new(),
        facings: Vec::new(),
    }
}

/// Knows from a picture's first pixel which camera it is of and how far the walker has come: the truth
/// travels in the frames themselves, through the real codec.
struct Painted(StoreMap);

impl Detect for Painted {
    fn detect(&mut self, width: u32, height: u32, rgb: &[u8]) -> Result<Vec<Detection>, Error> {
        // The picture is checked as the network would.
        Scripted::default().detect(width, height, rgb)?;
        // YUYV rounds, so each level is ten apart.
        let level = |index: usize| f64::from(rgb[index * 3 + 1]) / 10.0 - 2.0;
        let (camera, step) = (level(0).round() as usize, level(width as usize / 2).round());
        let model = &self.0.cameras[camera].model;
        let seen = |place| model.project(place).filter(|pixel| model.contains(*pixel));
        let [x, y] = walker(step);
        let [head, foot] = [1.6, 0.0].map(|z| seen([x, y, z]));
        let pixel = |[x, y]: [f64; 2]| [x as f32, y as f32];
        Ok(head
            .map(|head| Detection {
                head: pixel(head),
                foot: foot.map_or([-1.0, -1.0], pixel),
                score: 0.9,
                hands: Vec::new(),
            })
            .into_iter()
            .collect())
    }
}

/// Where the walker is at a step: from the lane to the back and to the side.
fn walker(step: f64) -> [f64; 2] {
    [3.0, 0.9 + 0.1 * step]
}

fn paint(camera: usize, step: usize) -> Rgb {
    let mut picture = Rgb::new(320, 192);
    picture.data.fill(GREY);
    let levels = [camera, step].map(|value| (value as u8 + 2) * 10);
    for pixel in 0..320 {
        picture.data[pixel * 3..pixel * 3 + 3].fill(levels[usize::from(pixel >= 80)]);
    }
    picture
}

/// A running service and everything that a test pulls at.
struct Bench {
    cameras: Vec<SimHandle>,
    counters: Arc<Counters>,
    health: Subscription,
    floor: Subscription,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), visiond::Error>>,
    clock: Clock,
}

impl Bench {
    fn new<D: Detect + 'static>(map: &StoreMap, sizes: &[[u32; 2]], detectors: Vec<D>) -> Self {
        let clock = Clock::starting_at(Instant(START));
        let bus = Bus::local();
        let (stop, stopped) = watch::channel(false);
        let settings = Settings::default();
        let counters = Arc::clone(&settings.counters);
        let (mut cameras, mut handles) = (Vec::new(), Vec::new());
        for (id, [width, height]) in sizes.iter().enumerate() {
            let (camera, handle) = Sim::new(*width, *height, Format::Yuyv);
            cameras.push((CameraId(id as u16), camera));
            handles.push(handle);
        }
        let health = bus.subscribe(&format!("{}/visiond/+", topic::HEALTH));
        let floor = bus.subscribe(topic::FLOOR_VIEW);
        let service = visiond::run(settings, map.clone(), cameras, detectors, bus, clock.clone(), stopped);
        Self { cameras: handles, counters, health, floor, stop, task: tokio::spawn(service), clock }
    }

    /// Lets every camera expose `step`, and 100 ms pass.
    async fn step(&mut self, step: usize) {
        let now = self.clock.now().0;
        for (id, camera) in self.cameras.iter().enumerate() {
            if [camera.width(), camera.height()] == [320, 192] {
                camera.push(&paint(id, step), now);
            } else {
                camera.push(&Rgb::new(camera.width(), camera.height()), now);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    /// Views published so far.
    fn views(&mut self) -> Vec<FloorView> {
        std::iter::from_fn(|| self.floor.try_recv()).map(|message| message.parse().expect("a view")).collect()
    }

    /// Health reports so far of one camera, in order.
    fn health(&mut self) -> Vec<(String, HealthState, String)> {
        std::iter::from_fn(|| self.health.try_recv())
            .map(|message| message.parse::<Health>().expect("a health report"))
            .filter(|health| health.device != "service")
            .map(|health| (health.device, health.state, health.detail))
            .collect()
    }

    async fn end(self) {
        self.stop.send(true).expect("the service still listens");
        self.task.await.expect("no panic").expect("a clean end");
    }
}

fn states(reports: &[(String, HealthState, String)], device: &str) -> Vec<HealthState> {
    reports.iter().filter(|report| report.0 == device).map(|report| report.1).collect()
}

#[tokio::test(start_paused = true)]
async fn a_walker_is_followed_ten_times_a_second() {
    let map = map(3);
    let mut bench = Bench::new(&map, &[[320, 192]; 3], vec![Painted(map.clone())]);
    for step in 0..20 {
        bench.step(step).await;
    }
    let views = bench.views();
    assert!((18..=20).contains(&views.len()), "{} views", views.len());
    assert!(views.windows(2).all(|pair| pair[1].at.since(pair[0].at).0 == 100));
    for view in &views[10..] {
        // The view of a time has the frames of that very time.
        let [x, y] = walker(((view.at.0 - START) / 100) as f64);
        assert_eq!(view.people.len(), 1, "{view:?}");
        let person = &view.people[0];
        let error = (person.position[0] - x).hypot(person.position[1] - y);
        assert!(error < 0.1, "{error} m at {:?}", view.at);
        assert_eq!(view.cameras.len(), 3);
    }
    let reports = bench.health();
    assert_eq!(reports.len(), 3, "{reports:?}");
    assert!(reports.iter().all(|report| report.1 == HealthState::Up));
    assert_eq!(bench.counters.frames.load(Ordering::Relaxed), 60);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_unplugged_camera_is_down_alone_and_comes_back() {
    let map = map(3);
    let mut bench = Bench::new(&map, &[[320, 192]; 3], vec![Painted(map.clone())]);
    for step in 0..10 {
        bench.step(step).await;
    }
    bench.cameras[1].unplug();
    for _ in 0..30 {
        bench.step(10).await;
    }
    let reports = bench.health();
    assert_eq!(states(&reports, "camera-1"), [HealthState::Up, HealthState::Down]);
    assert_eq!(
        reports.last().map(|report| report.2.as_str()),
        Some("camera 1: camera is disconnected; trying again")
    );
    let views = bench.views();
    let last = views.last().expect("views go on");
    assert_eq!((last.people.len(), last.cameras.len()), (1, 2), "{last:?}");
    bench.cameras[1].plug();
    for _ in 0..40 {
        bench.step(10).await;
    }
    let reports = bench.health();
    // Plugged in during a wait of the backoff: the old fault may be over before the first new frame.
    assert_eq!(states(&reports, "camera-1").last(), Some(&HealthState::Up));
    assert_eq!(states(&reports, "camera-0"), []);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn broken_frames_degrade_their_camera_only() {
    let map = map(3);
    let sizes = [[320, 192], [320, 192], [640, 480]];
    let mut bench = Bench::new(&map, &sizes, vec![Painted(map.clone())]);
    for step in 0..10 {
        bench.step(step).await;
    }
    bench.cameras[0].push_bytes(vec![7; 1000], bench.clock.now().0);
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..40 {
        bench.step(10).await;
    }
    let reports = bench.health();
    assert_eq!(states(&reports, "camera-0"), [HealthState::Up, HealthState::Degraded, HealthState::Up]);
    assert_eq!(states(&reports, "camera-1"), [HealthState::Up]);
    assert_eq!(states(&reports, "camera-2"), [HealthState::Down]);
    let text = |device: &str, part: &str| {
        let found = reports.iter().any(|report| report.0 == device && report.2.contains(part));
        assert!(found, "{part:?} of {device} is not in {reports:?}");
    };
    text("camera-0", "camera 0: damaged frame: YUYV frame of 320x192 holds 1000 bytes instead of 122880");
    text("camera-2", "frames of 640x480, but the store map calibrates it for 320x192");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn darkness_losses_and_false_clocks_are_named() {
    let map = map(3);
    let mut bench = Bench::new(&map, &[[320, 192]; 3], vec![Painted(map.clone())]);
    bench.step(0).await;
    bench.cameras[0].dark(true);
    for _ in 0..20 {
        bench.cameras[1].drop_next(1);
        bench.cameras[1].push(&paint(1, 0), bench.clock.now().0);
        bench.step(0).await;
        bench.cameras[2].push(&paint(2, 0), START + 3_600_000);
    }
    let reports = bench.health();
    for (device, text) in [
        ("camera-0", "the picture is black"),
        ("camera-1", "frames were lost"),
        ("camera-2", "ahead of the clock"),
    ] {
        let found = reports.iter().any(|(name, state, detail)| {
            name == device && *state == HealthState::Degraded && detail.contains(text)
        });
        assert!(found, "{text:?} of {device} is not in {reports:?}");
    }
    assert!(bench.views().last().is_some_and(|view| view.at.0 < START + 10_000), "time stayed true");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_detector_that_fails_is_asked_again_and_one_that_crashes_is_replaced() {
    /// Fails, then crashes, then works.
    struct Moody(u32);
    impl Detect for Moody {
        fn detect(&mut self, width: u32, _: u32, rgb: &[u8]) -> Result<Vec<Detection>, Error> {
            self.0 += 1;
            match self.0 {
                1..=3 => Err(Error::Picture { width, height: 0, bytes: rgb.len() }),
                4 => panic!("the network is no longer itself"),
                _ => Ok(Vec::new()),
            }
        }
    }
    let map = map(1);
    let mut bench = Bench::new(&map, &[[320, 192]], vec![Moody(0), Moody(4)]);
    for _ in 0..40 {
        bench.step(0).await;
    }
    let reports = bench.health();
    assert_eq!(states(&reports, "camera-0").last(), Some(&HealthState::Up), "{reports:?}");
    assert!(reports.iter().any(|report| report.2.contains("detection failed")), "{reports:?}");
    assert!(bench.views().len() >= 38);
    bench.end().await;

    let mut bench = Bench::new(&map, &[[320, 192]], vec![Moody(3)]);
    for _ in 0..5 {
        bench.step(0).await;
    }
    let ended = bench.task.await.expect("no panic in the service");
    assert!(matches!(ended, Err(visiond::Error::DetectorsLost { camera: CameraId(0) })), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn what_it_cannot_run_with_is_refused() {
    let map = map(1);
    let nobody: Vec<Scripted> = Vec::new();
    let bench = Bench::new(&map, &[[320, 192]], nobody);
    assert!(matches!(bench.task.await, Ok(Err(visiond::Error::NoDetector))));
    let bench = Bench::new(&map, &[[320, 192]; 2], vec![Scripted::default()]);
    assert!(matches!(bench.task.await, Ok(Err(visiond::Error::UnknownCamera { camera: CameraId(1) }))));
}
