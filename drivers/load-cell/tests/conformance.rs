//! What every line of weighing modules must do, on the simulator always. A real line joins with its transport
//! (a later issue); the suite is generic over the transport for that.

use std::time::Duration;

use load_cell::sim::{self, ModuleSpec, SimHandle};
use load_cell::{ChannelState, ErrorKind, LoadCells};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

const MODULES: [ModuleSpec; 3] = [
    ModuleSpec { address: 1, channels: 12 },
    ModuleSpec { address: 2, channels: 1 },
    ModuleSpec { address: 247, channels: 40 },
];

fn bench() -> (LoadCells<DuplexStream>, SimHandle) {
    let (port, sim, handle) = sim::line(&MODULES);
    tokio::spawn(sim.run());
    (LoadCells::new(port), handle)
}

/// Every module answers with as many channels as it has, again and again, and strangers are silent.
async fn conforms<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    cells: &mut LoadCells<T>,
    modules: &[ModuleSpec],
    absent: u8,
) {
    for round in 0..3 {
        for module in modules {
            let reading = cells.read(module.address).await.expect("a module that is there");
            assert_eq!(reading.channels.len(), usize::from(module.channels), "round {round}, {module:?}");
            assert!(reading.ready && !reading.fault, "round {round}, {module:?}");
        }
        let error = cells.read(absent).await.expect_err("nobody has this address");
        assert_eq!((error.kind(), error.address), (ErrorKind::Silent, absent));
    }
    for address in [0, 248, 255] {
        let error = cells.read(address).await.expect_err("no module may have this address");
        assert_eq!(error.kind(), ErrorKind::Address);
    }
}

#[tokio::test(start_paused = true)]
async fn the_simulator_conforms() {
    let (mut cells, _handle) = bench();
    conforms(&mut cells, &MODULES, 7).await;
}

#[tokio::test(start_paused = true)]
async fn loads_show_on_their_channel_only() {
    let (mut cells, handle) = bench();
    for tenths in [0, 1, -1, 6230, -200_000, 200_000, 65_536] {
        handle.set_counts(1, 11, tenths);
        cells.read(1).await.expect("settles");
        let reading = cells.read(1).await.expect("reads");
        assert_eq!(reading.channels[11].mass(), Some(tenths));
        assert_eq!(reading.channels[11].state, ChannelState::Stable);
        assert!(reading.channels[..11].iter().all(|channel| channel.mass() == Some(0)));
    }
}

#[tokio::test(start_paused = true)]
async fn channels_say_how_they_are() {
    let (mut cells, handle) = bench();
    cells.read(2).await.expect("reads");
    handle.set_counts(2, 0, 500);
    assert_eq!(cells.read(2).await.expect("reads").channels[0].state, ChannelState::Unstable);
    assert_eq!(cells.read(2).await.expect("reads").channels[0].state, ChannelState::Stable);
    handle.set_counts(2, 0, 200_001);
    assert_eq!(cells.read(2).await.expect("reads").channels[0].state, ChannelState::Overload);
    handle.open(2, 0, true);
    let reading = cells.read(2).await.expect("reads");
    assert_eq!((reading.channels[0].state, reading.channels[0].mass()), (ChannelState::Open, None));
}

#[tokio::test(start_paused = true)]
async fn a_stuck_channel_keeps_its_value_until_freed() {
    let (mut cells, handle) = bench();
    handle.set_counts(1, 3, 1000);
    handle.stick(1, 3, true);
    handle.set_counts(1, 3, 400);
    assert_eq!(cells.read(1).await.expect("reads").channels[3].mass(), Some(1000));
    handle.stick(1, 3, false);
    assert_eq!(cells.read(1).await.expect("reads").channels[3].mass(), Some(400));
}

#[tokio::test(start_paused = true)]
async fn a_dead_module_hurts_only_itself_and_comes_back() {
    let (mut cells, handle) = bench();
    handle.kill(1, true);
    assert_eq!(cells.read(1).await.expect_err("dead").kind(), ErrorKind::Silent);
    cells.read(2).await.expect("its neighbour lives");
    handle.kill(1, false);
    cells.read(1).await.expect("alive again");
}

#[tokio::test(start_paused = true)]
async fn a_broken_cable_silences_all_until_mended() {
    let (mut cells, handle) = bench();
    cells.read(1).await.expect("reads");
    handle.unplug();
    for module in MODULES {
        assert_eq!(cells.read(module.address).await.expect_err("no cable").kind(), ErrorKind::Silent);
    }
    handle.plug();
    conforms(&mut cells, &MODULES, 9).await;
}

#[tokio::test(start_paused = true)]
async fn a_garbled_answer_is_named_and_the_next_is_good() {
    let (mut cells, handle) = bench();
    cells.read(1).await.expect("reads");
    handle.garble(1);
    assert_eq!(cells.read(1).await.expect_err("wrong crc").kind(), ErrorKind::Garbled);
    cells.read(1).await.expect("reads");
}

#[tokio::test(start_paused = true)]
async fn an_ended_transport_is_disconnected() {
    let (port, sim, _handle) = sim::line(&MODULES);
    drop(sim);
    assert_eq!(LoadCells::new(port).read(1).await.expect_err("gone").kind(), ErrorKind::Disconnected);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_read_does_not_disturb_the_next() {
    let (mut cells, handle) = bench();
    handle.set_counts(1, 0, 10);
    for wait in 0..8 {
        let cut = tokio::time::timeout(Duration::from_millis(wait), cells.read(1)).await;
        let reading = cells.read(2).await.expect("another module right after");
        assert_eq!(reading.channels.len(), 1, "after {wait} ms, {cut:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_not_taken_for_the_next_one() {
    let (port, mut modules) = tokio::io::duplex(1024);
    let mut cells = LoadCells::new(port);
    let answers = tokio::spawn(async move {
        let mut request = [0_u8; 8];
        modules.read_exact(&mut request).await.expect("a request");
        tokio::time::sleep(Duration::from_millis(80)).await;
        modules.write_all(&input_registers(1, &[1, 9])).await.expect("the late answer");
        // The late answer waits in the port before the next request begins.
        modules.read_exact(&mut request).await.expect("the header again");
        modules.write_all(&input_registers(1, &[1, 1])).await.expect("an answer in time");
        modules.read_exact(&mut request).await.expect("the map");
        modules.write_all(&input_registers(1, &[1, 1, 0, 7, 1])).await.expect("an answer in time");
    });
    assert_eq!(cells.read(1).await.expect_err("late").kind(), ErrorKind::Silent);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(cells.read(1).await.expect("in time").channels[0].mass(), Some(7));
    answers.await.expect("the modules had their say");
}

#[tokio::test(start_paused = true)]
async fn answers_that_do_not_fit_are_errors() {
    for (answer, kind) in [
        (input_registers(1, &[1]), ErrorKind::Protocol),
        (input_registers(1, &[1, 2, 3]), ErrorKind::Protocol),
        (input_registers(1, &[]), ErrorKind::Protocol),
        (input_registers(1, &[1, 0]), ErrorKind::Protocol),
        (input_registers(2, &[1, 1]), ErrorKind::Protocol),
        (framed(&[1, 0x84, 2]), ErrorKind::Exception),
        (framed(&[1, 0x03, 2, 0, 1]), ErrorKind::Protocol),
        (vec![0x55; 40], ErrorKind::Garbled),
    ] {
        let (port, mut module) = tokio::io::duplex(1024);
        let mut cells = LoadCells::new(port);
        let bytes = answer.clone();
        let answering = tokio::spawn(async move {
            let mut request = [0_u8; 8];
            module.read_exact(&mut request).await.expect("a request");
            module.write_all(&bytes).await.expect("an answer");
            module
        });
        assert_eq!(cells.read(1).await.expect_err("unfit").kind(), kind, "{answer:02x?}");
        drop(answering);
    }
}

#[tokio::test(start_paused = true)]
async fn random_bytes_never_end_the_modules() {
    let (port, sim, handle) = sim::line(&MODULES);
    let running = tokio::spawn(sim.run());
    let (mut reader, mut writer) = tokio::io::split(port);
    // Somebody must take the answers, or the line is full.
    let answers = tokio::spawn(async move {
        let mut sink = [0_u8; 256];
        while reader.read(&mut sink).await.is_ok_and(|length| length > 0) {}
    });
    let mut random = Random(11);
    for round in 0..2000 {
        let length = random.below(300);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
        if round % 2 == 0 {
            // Half of them with a right CRC and a plausible start, so that they reach the functions.
            let function = [3, 4, 6, 16, 0x80][random.below(5)];
            bytes.splice(..bytes.len().min(2), [1, function]);
            bytes.truncate(254);
            bytes = framed(&bytes);
        }
        writer.write_all(&bytes).await.expect("the line takes bytes");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    assert!(!running.is_finished(), "seed 11");
    handle.unplug();
    drop(writer);
    answers.abort();
}

#[tokio::test(start_paused = true)]
async fn random_bytes_never_end_the_master() {
    let mut random = Random(13);
    for round in 0..300 {
        let (port, mut modules) = tokio::io::duplex(4096);
        let mut bytes: Vec<u8> = (0..random.below(200)).map(|_| random.below(256) as u8).collect();
        if round % 2 == 0 {
            let function = random.below(256) as u8;
            bytes.splice(..bytes.len().min(2), [1, function]);
            bytes = framed(&bytes);
        }
        tokio::spawn(async move {
            let mut request = [0_u8; 8];
            while modules.read_exact(&mut request).await.is_ok() {
                if modules.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        let mut cells = LoadCells::new(port);
        for _ in 0..3 {
            assert!(cells.read(1).await.is_err(), "seed 13, round {round}");
        }
    }
}

fn input_registers(address: u8, registers: &[u16]) -> Vec<u8> {
    let mut bytes = vec![address, 4, (registers.len() * 2) as u8];
    bytes.extend(registers.iter().flat_map(|register| register.to_be_bytes()));
    framed(&bytes)
}

fn framed(content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    bytes.extend(load_cell::codec::crc16(content).to_le_bytes());
    bytes
}

/// A small linear congruential generator; a failure names its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}
