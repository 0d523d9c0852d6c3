//! A day through the devices: codes travel as HID reports, a small gate checks them with the engine's
//! admission and pulses the turnstile, passages and masses come back as lines and counts.

use std::collections::VecDeque;
use std::time::Duration;

use engine::admission::{Admission, Issuers, PartyEntry, Settings, UntrustedClock};
use engine::message::DenyReason;
use engine::time::{Instant, Millis};
use engine::units::LaneId;
use qr_scanner::QrScanner;
use store_sim::devices::{Devices, Opened};
use store_sim::oracle::{GrantFact, items_are_conserved, replay_command, unlocks_are_granted};
use store_sim::{Options, World, phone};
use turnstile::{Line, Outputs, Turnstile};

/// Pulses wait here, one world step active and one inactive each.
struct Gate {
    lane: LaneId,
    admission: Admission,
    pulses: VecDeque<bool>,
    grants: Vec<GrantFact>,
    refusals: Vec<DenyReason>,
    entries: u32,
    exits: u32,
    last_in: Option<(Instant, engine::units::MemberHandle, u8)>,
}

impl Gate {
    fn new(world: &World) -> Self {
        let (key_id, key) = world.office().issuer_key();
        let mut issuers = Issuers::default();
        issuers.install(key_id, key);
        let settings = Settings {
            store_group: phone::STORE_GROUP,
            issuers,
            group_key: Some(world.office().group_key()),
            untrusted_clock: UntrustedClock::Refuse,
            party: PartyEntry::CountIn,
            ..Settings::default()
        };
        Self {
            lane: LaneId::from("entry-1"),
            admission: Admission::new(settings),
            pulses: VecDeque::new(),
            grants: Vec::new(),
            refusals: Vec::new(),
            entries: 0,
            exits: 0,
            last_in: None,
        }
    }

    fn scanned(&mut self, now: Instant, text: &[u8]) {
        match self.admission.check(now, true, text) {
            Ok(admitted) => {
                for _ in 0..admitted.passages {
                    self.pulses.extend([true, false]);
                    self.admission.passed(admitted.grant.member, false);
                }
                self.last_in = Some((now, admitted.grant.member, admitted.passages));
                self.grants.push(GrantFact {
                    at: now,
                    lane: self.lane.clone(),
                    member: admitted.grant.member,
                    passages: admitted.passages,
                    until: now.after(Millis::from_seconds(8)),
                });
            }
            Err(reason) => self.refusals.push(reason),
        }
    }
}

async fn run(options: Options) -> (World, Devices, Gate) {
    let mut world = World::new(options);
    let (mut devices, opened) = Devices::new(&world, camera::Format::Yuyv);
    devices.stop_cameras();
    let Opened { lanes, .. } = opened;
    let mut gate = Gate::new(&world);
    let mut scanner = None;
    let mut turnstiles = Vec::new();
    for lane in lanes {
        scanner = lane.scanner.or(scanner);
        turnstiles.push((lane.lane, lane.turnstile));
    }
    let mut now = options.start;
    let limit = options.start.after(Millis::from_seconds(60 + 40 * u64::from(options.shoppers)));
    while !world.finished() {
        assert!(now < limit, "the day never ends; {}", replay_command(&options));
        now = now.after(Millis(50));
        devices.step(&mut world, now);
        for (lane, turnstile) in &mut turnstiles {
            while let Ok(edge) = tokio::time::timeout(Duration::ZERO, turnstile.next_edge()).await {
                let edge = edge.expect("nobody pulls the turnstile");
                gate.entries += u32::from(edge.line == Line::PassageA && edge.active);
                gate.exits += u32::from(edge.line == Line::PassageB && edge.active);
            }
            if *lane == gate.lane {
                let unlock_a = gate.pulses.pop_front().unwrap_or(false);
                turnstile
                    .drive(Outputs { unlock_a, ..Outputs::INACTIVE })
                    .expect("nobody pulls the turnstile");
            }
        }
        if scanner.is_none() {
            scanner = devices.scanner(&gate.lane).and_then(|handle| handle.open().ok());
        }
        while let Some(open) = &mut scanner {
            match tokio::time::timeout(Duration::ZERO, open.next_scan()).await {
                Ok(Ok(scan)) => gate.scanned(now, &scan.text),
                Ok(Err(_)) => scanner = None,
                Err(_) => break,
            }
        }
    }
    (world, devices, gate)
}

#[tokio::test(start_paused = true)]
async fn a_day_goes_through_the_devices() {
    for (seed, faults) in [(1, false), (2, true), (3, true)] {
        let options = Options { seed, shoppers: 15, faults, ..Options::default() };
        let replay = replay_command(&options);
        let (world, devices, gate) = run(options).await;
        let truth = world.truth();
        let people: usize = truth.visits.iter().map(|visit| visit.people.len()).sum();
        assert!(truth.visits.iter().all(|visit| visit.left.is_some()), "somebody did not get in; {replay}");
        assert_eq!((gate.entries, gate.exits), (people as u32, people as u32), "{replay}");
        assert_eq!(gate.grants.len(), truth.visits.len(), "{replay}");
        // Old screenshots are the only codes refused.
        let wrong: Vec<&DenyReason> =
            gate.refusals.iter().filter(|reason| **reason != DenyReason::Stale).collect();
        assert!(wrong.is_empty(), "{wrong:?}; {replay}");
        assert_eq!(unlocks_are_granted(devices.unlocks(), &gate.grants, Millis(200)), [], "{replay}");
        assert_eq!(items_are_conserved(&world), [], "{replay}");
    }
}

#[tokio::test]
async fn pictures_reach_the_cameras() {
    let options = Options { seed: 1, shoppers: 3, ..Options::default() };
    let mut world = World::new(options);
    world.open_gate();
    let (mut devices, mut opened) = Devices::new(&world, camera::Format::Yuyv);
    devices.step(&mut world, options.start.after(Millis(1_000)));
    assert_eq!(devices.frames(), 8 * 9 + 4);
    for (id, sim) in &mut opened.cameras {
        let frame = camera::Camera::next_frame(sim).await.expect("plugged in");
        assert_eq!((frame.width, frame.height), (320, 192), "camera {id}");
        let picture = camera::codec::decode(&frame).expect("a whole frame");
        let (least, most) = picture
            .data
            .iter()
            .fold((255, 0), |(least, most), value| (*value.min(&least), *value.max(&most)));
        assert!(most - least > 60, "camera {id} sees nothing");
    }
}
