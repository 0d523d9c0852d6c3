//! Whole days through the box: all services, simulated devices, the real detector.

use std::path::{Path, PathBuf};

use appliance_box::day::{self, Plan};
use appliance_box::live::{self, Live};
use appliance_box::report::Table;
use appliance_box::services::{Files, models_dir};
use runtime::manifest::{BusSettings, ConsoleSettings};
use store_sim::{Options, oracle};

use crate::bus::Broker;

fn plan(state: &Path, world: Options) -> Plan {
    let onnxruntime = recognition::library_path().expect("ONNX Runtime (make deps unpacks it)");
    Plan { world, files: Files { state: state.to_owned(), models: models_dir(), onnxruntime }, trace: None }
}

fn replay(options: &Options) -> String {
    let faults = if options.faults { " --faults" } else { "" };
    format!(
        "replay: cargo run --release -p box -- day --seed {} --shoppers {}{faults}\nthe world alone: {}",
        options.seed,
        options.shoppers,
        oracle::replay_command(options)
    )
}

/// Safety and bookkeeping hold on every day, whatever the cameras saw.
fn check(table: &Table, options: &Options) {
    let replay = replay(options);
    assert!(table.violations.is_empty(), "{:#?}\n{replay}", table.violations);
    assert_eq!(table.settled_twice, 0, "{replay}");
    assert_eq!(table.gate_ms.samples > 0, table.shoppers > 0, "{replay}");
}

#[test]
fn a_day_settles_every_session_once_and_mostly_right() {
    let state = day::fresh_state().expect("a folder");
    let options = Options { seed: 3, shoppers: 4, ..Options::default() };
    let table = day::run(&plan(state.path(), options), &mut |_| {}).expect("the day ends");
    check(&table, &options);
    assert!(table.shoppers == 4 && table.sessions_settled >= 4, "{table}\n{}", replay(&options));
    // Far below what is measured on whole days (README): this guards the chain, not the model.
    assert!(table.item_f1 >= 0.5, "{table}\n{}", replay(&options));
    assert!(table.camera_frames > 1_000, "{table}");
}

#[test]
fn a_day_of_faults_breaks_no_rule() {
    let state = day::fresh_state().expect("a folder");
    let options = Options { seed: 5, shoppers: 4, faults: true, ..Options::default() };
    let table = day::run(&plan(state.path(), options), &mut |_| {}).expect("the day ends");
    check(&table, &options);
}

#[test]
fn the_live_store_runs_through_a_broker() {
    let broker = Broker::start();
    let state = day::fresh_state().expect("a folder");
    let options = Options { seed: 4, shoppers: 1, ..Options::default() };
    let pictures: PathBuf = state.path().join("screens");
    let live = Live {
        plan: plan(state.path(), options),
        console: ConsoleSettings { listen: ([127, 0, 0, 1], 0).into(), ..ConsoleSettings::default() },
        pictures: pictures.clone(),
        headless: true,
        bus: BusSettings::Mqtt(broker.settings.clone()),
    };
    let table = live::run(&live, |_| {}).expect("the day ends");
    check(&table, &options);
    assert_eq!((table.shoppers, table.sessions_settled), (1, 1), "{table}");
    let drawn = std::fs::read_dir(&pictures).expect("pictures").count();
    assert!(drawn >= 2, "{drawn} pictures of the screens");
}
