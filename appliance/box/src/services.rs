//! Stile's services against the simulated devices of one world, each a task that can be killed and started again.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cartd::payment::{Provider, Recorder};
use engine::admission::{Issuers, PartyEntry, UntrustedClock};
use engine::session::Policy;
use engine::store::StoreMap;
use engine::time::Millis;
use engine::units::CameraId;
use recognition::Detector;
use runtime::bus::Bus;
use runtime::clock::Clock;
use store_sim::World;
use store_sim::devices::{Devices, Opened, OpenedLine};
use store_sim::fault::Service;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Detectors that work side by side: one a core of the smallest box.
const DETECTORS: usize = 2;

/// No person answers reviews in a simulated day: waiting longer changes nothing but the age of the receipt.
const REVIEW_TIMEOUT: Millis = Millis::from_seconds(20);

/// Where the services find their files.
#[derive(Clone, Debug)]
pub struct Files {
    /// Folder for ledgers and outboxes.
    pub state: PathBuf,
    /// Folder with the models' manifest.
    pub models: PathBuf,
    /// ONNX Runtime's shared library.
    pub onnxruntime: PathBuf,
}

/// The running services.
pub struct Services {
    files: Files,
    map: StoreMap,
    bus: Bus,
    clock: Clock,
    admission: engine::admission::Settings,
    payment: Recorder,
    trace: bool,
    stop: watch::Sender<bool>,
    running: BTreeMap<Service, JoinHandle<anyhow::Result<()>>>,
}

impl Services {
    /// Starts gated, visiond and cartd on these devices; with `trace` they publish all that they sense.
    ///
    /// # Errors
    /// When a model cannot be loaded.
    pub fn start(
        world: &World,
        opened: Opened,
        devices: &Devices,
        files: Files,
        bus: Bus,
        clock: Clock,
        trace: bool,
    ) -> anyhow::Result<Self> {
        let (stop, _) = watch::channel(false);
        let charges = files.state.join("charges.jsonl");
        let mut services = Self {
            map: world.map().clone(),
            admission: admission(world),
            payment: Recorder::in_file(&charges)
                .with_context(|| format!("cannot open {}", charges.display()))?,
            running: BTreeMap::new(),
            trace,
            files,
            bus,
            clock,
            stop,
        };
        services.start_gated(devices);
        services.start_visiond(opened.cameras)?;
        services.start_cartd(opened.lines);
        Ok(services)
    }

    /// Kills a service as by `kill -9`: its task is dropped where it stands.
    pub fn kill(&mut self, service: Service) {
        if let Some(task) = self.running.remove(&service) {
            tracing::info!(?service, "killed");
            task.abort();
        }
    }

    /// Starts a killed service again, with its devices opened afresh.
    ///
    /// # Errors
    /// When a model cannot be loaded.
    pub fn restart(&mut self, service: Service, world: &World, devices: &mut Devices) -> anyhow::Result<()> {
        tracing::info!(?service, "started again");
        match service {
            Service::Gated => self.start_gated(devices),
            Service::Visiond => {
                let ids = self.map.cameras.iter().map(|camera| camera.id).collect::<Vec<_>>();
                let cameras =
                    ids.into_iter().filter_map(|id| Some((id, devices.reopen_camera(id)?))).collect();
                self.start_visiond(cameras)?;
            }
            Service::Cartd => {
                let ids = self.map.gondolas.iter().map(|gondola| gondola.id).collect::<Vec<_>>();
                let lines = ids.into_iter().filter_map(|id| devices.reopen_line(world, id)).collect();
                self.start_cartd(lines);
            }
        }
        Ok(())
    }

    /// A service that ended by itself, with its error.
    ///
    /// # Errors
    /// The first such service.
    pub async fn check(&mut self) -> anyhow::Result<()> {
        let ended = self.running.iter().find(|(_, task)| task.is_finished()).map(|(service, _)| *service);
        let Some(service) = ended else { return Ok(()) };
        let Some(task) = self.running.remove(&service) else { return Ok(()) };
        task.await
            .with_context(|| format!("{service:?} panicked"))?
            .with_context(|| format!("{service:?} ended"))?;
        anyhow::bail!("{service:?} ended by itself")
    }

    /// A flag that becomes true when the services should end.
    #[must_use]
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Ends all services and waits for them.
    ///
    /// # Errors
    /// The first service that ended badly.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        for (service, task) in std::mem::take(&mut self.running) {
            task.await.with_context(|| format!("{service:?} panicked"))??;
        }
        Ok(())
    }

    fn start_gated(&mut self, devices: &Devices) {
        let lanes = self.map.lanes.iter().filter_map(|lane| {
            let turnstile = devices.turnstile(&lane.id)?.clone();
            let scanner = devices.scanner(&lane.id).cloned();
            let opened = gated::Lane::of(lane, Box::new(move || turnstile.open()));
            Some(match scanner {
                Some(scanner) => {
                    opened.with(gated::Reader::scanner("scanner", Box::new(move || scanner.open())))
                }
                None => opened,
            })
        });
        let settings = gated::Settings::new(self.files.state.join("gated.db"), self.admission.clone());
        let lanes = lanes.collect();
        let run = gated::run(settings, lanes, self.bus.clone(), self.clock.clone(), self.stop.subscribe());
        self.spawn(Service::Gated, async move { Ok(run.await?) });
    }

    fn start_visiond(&mut self, cameras: Vec<(CameraId, camera::sim::Sim)>) -> anyhow::Result<()> {
        let detectors = (0..DETECTORS)
            .map(|_| Detector::load(&self.files.models, &self.files.onnxruntime))
            .collect::<Result<Vec<_>, _>>()
            .context("cannot load the people detector")?;
        let run = visiond::run(
            visiond::Settings { trace: self.trace, ..visiond::Settings::default() },
            self.map.clone(),
            cameras,
            detectors,
            self.bus.clone(),
            self.clock.clone(),
            self.stop.subscribe(),
        );
        self.spawn(Service::Visiond, async move { Ok(run.await?) });
        Ok(())
    }

    fn start_cartd(&mut self, lines: Vec<OpenedLine>) {
        let settings = cartd::Settings {
            ledger: self.files.state.join("ledger.db"),
            policy: Policy { review_timeout: REVIEW_TIMEOUT, ..Policy::default() },
            payment: Provider::Recorder(self.payment.clone()),
            trace: self.trace,
        };
        let (map, bus, clock) = (self.map.clone(), self.bus.clone(), self.clock.clone());
        let stop = self.stop.subscribe();
        self.spawn(Service::Cartd, async move {
            // The simulated modules live as long as the service that opened them.
            let mut modules = tokio::task::JoinSet::new();
            let mut masters = Vec::new();
            for line in lines {
                modules.spawn(line.sim.run());
                masters.push((line.gondola, cartd::opened(line.transport)));
            }
            Ok(cartd::run(settings, map, masters, bus, clock, stop).await?)
        });
    }

    fn spawn(&mut self, service: Service, run: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.running.insert(service, tokio::spawn(run));
    }
}

/// What the gates of a simulated store were given: the issuer's public key and the group key.
fn admission(world: &World) -> engine::admission::Settings {
    let (id, key) = world.office().issuer_key();
    let mut issuers = Issuers::default();
    issuers.install(id, key);
    engine::admission::Settings {
        store_group: store_sim::phone::STORE_GROUP,
        issuers,
        group_key: Some(world.office().group_key()),
        untrusted_clock: UntrustedClock::Refuse,
        party: PartyEntry::default(),
        ..engine::admission::Settings::default()
    }
}

/// The models that lie beside this source, for runs from a checkout; `STILE_MODELS` names another folder.
#[must_use]
pub fn models_dir() -> PathBuf {
    std::env::var_os("STILE_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/onnx"), PathBuf::from)
}
