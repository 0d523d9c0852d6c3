//! Writes labelled pictures for training the people detector: random stores, cameras, light and people.
//!
//! The output folder gets `frames.u8` (frame after frame of red, green, blue bytes, row by row), `labels.f32`
//! (little-endian; frame after frame of `PEOPLE_MAX` people of `FIELDS` numbers, NaN where there is none) and
//! `dataset.txt`, which says how it was made. The fields of a person: head x, y (pixels), share of the head that is
//! seen, head radius (pixels); foot x, y; then for the left and the right hand x, y, share seen; then metres on the
//! plane at head height per pixel as dX/dx, dX/dy, dY/dx, dY/dy, and the same on the floor at the foot.

use std::f64::consts::{PI, TAU};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use engine::floor::camera::CameraModel;
use engine::store::{Plate, StoreMap};
use store_sim::body::{Body, Figure};
use store_sim::dice::Dice;
use store_sim::layout::Layout;
use store_sim::render::{Part, Renderer};

/// People labelled in a frame; none has more.
const PEOPLE_MAX: usize = 8;
/// Numbers a person.
const FIELDS: usize = 20;

/// Writes labelled pictures for training the people detector.
#[derive(Parser)]
struct Arguments {
    /// Folder to create; outside the work tree.
    #[arg(long)]
    out: PathBuf,
    /// How many stores.
    #[arg(long, default_value_t = 200)]
    stores: u64,
    /// Seed of the first store; the others count on. Keep training and held-out seeds apart.
    #[arg(long)]
    first_seed: u64,
    /// Cameras in each store.
    #[arg(long, default_value_t = 3)]
    cameras: usize,
    /// Frames of each camera.
    #[arg(long, default_value_t = 12)]
    frames: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    fs::create_dir_all(&arguments.out).with_context(|| format!("create {}", arguments.out.display()))?;
    let create = |name: &str| {
        let path = arguments.out.join(name);
        File::create(&path).map(BufWriter::new).with_context(|| format!("create {}", path.display()))
    };
    let mut frames = create("frames.u8")?;
    let mut labels = create("labels.f32")?;
    let mut picture = camera::Rgb::new(320, 192);
    for seed in arguments.first_seed..arguments.first_seed + arguments.stores {
        let mut dice = Dice::new(seed, 100);
        let map = store(seed, arguments.cameras, &mut dice);
        for index in 0..arguments.cameras {
            let mut renderer = Renderer::new(&map, index, seed);
            for _ in 0..arguments.frames {
                let bodies = people(&map, &map.cameras[index].model, &mut dice);
                renderer.frame(&bodies, &mut picture);
                frames.write_all(&picture.data).context("write frames")?;
                for value in label(&renderer, &bodies) {
                    labels.write_all(&value.to_le_bytes()).context("write labels")?;
                }
            }
        }
    }
    let count = arguments.stores * (arguments.cameras * arguments.frames) as u64;
    let mut about = create("dataset.txt")?;
    writeln!(
        about,
        "frames {count} width 320 height 192 people {PEOPLE_MAX} fields {FIELDS} stores {} first-seed {} \
         cameras {} frames-per-camera {}",
        arguments.stores, arguments.first_seed, arguments.cameras, arguments.frames
    )
    .context("write dataset.txt")?;
    for mut file in [frames, labels, about] {
        file.flush().context("finish files")?;
    }
    Ok(())
}

/// A store with cameras that someone else hung: other heights, tilts and lenses.
fn store(seed: u64, cameras: usize, dice: &mut Dice) -> StoreMap {
    let mut map = Layout::new(seed).map;
    // Some stores are emptier than others.
    map.gondolas.retain(|_| dice.chance(0.85));
    map.plates.retain(|plate| map.gondolas.iter().any(|gondola| gondola.id == plate.id.gondola));
    let ceiling = dice.between(2.4, 3.6);
    map.cameras.truncate(cameras);
    for camera in &mut map.cameras {
        if dice.chance(0.5) {
            // As the layout hangs it, but for the ceiling.
            camera.model.position[2] = ceiling;
        } else {
            camera.model = hang(&map.bounds, ceiling, dice);
        }
        camera.model.distortion =
            [dice.between(-0.06, 0.03), dice.between(-0.005, 0.005), dice.between(-0.002, 0.001), 0.0];
    }
    map
}

fn hang(bounds: &[f64; 4], ceiling: f64, dice: &mut Dice) -> CameraModel {
    let place = [0, 1].map(|axis| dice.between(bounds[axis] + 0.3, bounds[axis + 2] - 0.3));
    let middle = [0, 1].map(|axis| (bounds[axis] + bounds[axis + 2]) / 2.0);
    // Tilt from straight down to 55 degrees, mostly towards the middle of the room.
    let tilt = dice.between(0.02, 0.96);
    let towards = (middle[1] - place[1]).atan2(middle[0] - place[0]) + 0.8 * dice.normal();
    let away = ceiling * tilt.tan();
    let target = [place[0] + away * towards.cos(), place[1] + away * towards.sin(), 0.0];
    // The picture's top is mostly away from the camera; a camera that looks down may be turned anyhow.
    let turn = if tilt < 0.35 { dice.between(0.0, TAU) } else { towards + 0.1 * dice.normal() };
    let up = [turn.cos(), turn.sin(), 0.2];
    let fov = dice.between(1.45, 2.2);
    CameraModel::looking_at([320, 192], fov, [place[0], place[1], ceiling], target, up)
}

/// Up to six people where this camera may see them, standing, walking, reaching, carrying, close together.
fn people(map: &StoreMap, camera: &CameraModel, dice: &mut Dice) -> Vec<Body> {
    let count = [0, 1, 1, 2, 2, 3, 3, 4, 5, 6][dice.below(10)];
    let mut bodies: Vec<(Body, [f64; 2])> = Vec::new();
    for _ in 0..count * 10 {
        if bodies.len() == count {
            break;
        }
        let height = if dice.chance(0.12) { dice.between(0.9, 1.5) } else { dice.between(1.48, 1.98) };
        let figure = Figure::random_of(height, dice);
        let shopping = !map.plates.is_empty() && dice.chance(0.45);
        let (position, heading, target) = if shopping {
            let Some(plate) = seen_plate(map, camera, dice) else { continue };
            let along = dice.between(-0.3, 0.3);
            let away = dice.between(0.25, 0.6) + 0.18;
            let position = [0, 1].map(|axis| {
                let across = [-plate.front[1], plate.front[0]][axis];
                plate.position[axis] + plate.front[axis] * away + across * along
            });
            let heading = (-plate.front[1]).atan2(-plate.front[0]) + 0.35 * dice.normal();
            // From just begun to deep in the shelf.
            let depth = dice.between(-0.35, 0.12);
            let target = [
                plate.position[0] - plate.front[0] * depth,
                plate.position[1] - plate.front[1] * depth,
                plate.position[2] + dice.between(0.03, 0.25),
            ];
            (position, heading, Some(target))
        } else if !bodies.is_empty() && dice.chance(0.3) {
            let (_, near) = &bodies[dice.below(bodies.len())];
            let (angle, away) = (dice.between(0.0, TAU), dice.between(0.35, 0.8));
            ([near[0] + away * angle.cos(), near[1] + away * angle.sin()], dice.between(-PI, PI), None)
        } else {
            let pixel = [dice.between(-20.0, 340.0), dice.between(-20.0, 212.0)];
            let Some(position) = camera.on_plane(pixel, dice.between(0.0, 1.5)) else { continue };
            (position, dice.between(-PI, PI), None)
        };
        let crowded =
            bodies.iter().any(|(_, other)| (other[0] - position[0]).hypot(other[1] - position[1]) < 0.33);
        if crowded || !free(map, position) {
            continue;
        }
        bodies.push((act(&figure, position, heading, target, dice), position));
    }
    bodies.into_iter().map(|(body, _)| body).collect()
}

/// A plate in the picture, if a few draws find one.
fn seen_plate<'a>(map: &'a StoreMap, camera: &CameraModel, dice: &mut Dice) -> Option<&'a Plate> {
    (0..8)
        .map(|_| &map.plates[dice.below(map.plates.len())])
        .find(|plate| camera.project(plate.position).is_some_and(|pixel| camera.contains(pixel)))
}

/// Poses one person: what the hands do is drawn.
fn act(figure: &Figure, position: [f64; 2], heading: f64, target: Option<[f64; 3]>, dice: &mut Dice) -> Body {
    let hand = dice.below(2);
    let mut reach = [None, None];
    let mut stride = if dice.chance(0.6) { dice.between(0.0, TAU) } else { 0.0 };
    if target.is_some() {
        reach[hand] = target;
        stride = 0.3 * dice.normal();
    }
    let mut held = [target.is_some() && dice.chance(0.5); 2];
    held[1 - hand] = false;
    for side in 0..2 {
        if reach[side].is_some() {
            continue;
        }
        match dice.below(10) {
            // Carries something in front of the body.
            0..=2 => {
                let mut point = figure.carry_point(position, heading, side);
                point[2] += dice.between(-0.1, 0.2);
                reach[side] = Some(point);
                held[side] = dice.chance(0.85);
            }
            // Holds it hanging.
            3 => held[side] = true,
            // Any gesture: a phone, scratching, pointing.
            4 => {
                let aim = heading + dice.between(-0.8, 0.8);
                let away = dice.between(0.15, 0.6);
                reach[side] = Some([
                    position[0] + away * aim.cos(),
                    position[1] + away * aim.sin(),
                    figure.height * dice.between(0.55, 1.0),
                ]);
            }
            _ => {}
        }
    }
    let mut body = Body::pose(figure, position, heading, stride, reach);
    for (side, held) in held.into_iter().enumerate() {
        if held {
            let largest = if dice.chance(0.12) { 0.42 } else { 0.2 };
            let size = [0; 3].map(|_| dice.between(0.03, largest));
            let colour = [0; 3].map(|_| dice.between(10.0, 245.0) as u8);
            body.hold(side, size, colour);
        }
    }
    body
}

fn free(map: &StoreMap, position: [f64; 2]) -> bool {
    let inside = |[least_x, least_y, most_x, most_y]: [f64; 4], margin: f64| {
        position[0] > least_x - margin
            && position[0] < most_x + margin
            && position[1] > least_y - margin
            && position[1] < most_y + margin
    };
    inside(map.bounds, 0.0) && !map.gondolas.iter().any(|gondola| inside(gondola.footprint, 0.12))
}

fn label(renderer: &Renderer, bodies: &[Body]) -> Vec<f32> {
    let camera = renderer.camera();
    let coverage = renderer.coverage();
    let mut label = vec![f32::NAN; PEOPLE_MAX * FIELDS];
    for (index, body) in bodies.iter().enumerate() {
        let (Some(head), Some(foot)) = (camera.project(body.head), camera.project(body.foot())) else {
            continue;
        };
        let seen = |part, radius: f64| {
            let pixels = coverage.get(&(index, part)).copied().unwrap_or(0);
            (f64::from(pixels) / (PI * radius * radius).max(1.0)).min(1.0)
        };
        let height = body.figure.height;
        let head_radius = pixel_radius(camera, body.head, 0.06 * height);
        let person = &mut label[index * FIELDS..(index + 1) * FIELDS];
        let mut fields = vec![head[0], head[1], seen(Part::Head, head_radius), head_radius, foot[0], foot[1]];
        for (side, part) in [Part::LeftHand, Part::RightHand].into_iter().enumerate() {
            let hand = camera.project(body.wrists[side]).unwrap_or([f64::NAN; 2]);
            let radius = pixel_radius(camera, body.wrists[side], 0.033 * height);
            fields.extend([hand[0], hand[1], seen(part, radius)]);
        }
        fields.extend(metres_per_pixel(camera, head, body.head[2]));
        fields.extend(metres_per_pixel(camera, foot, 0.0));
        for (slot, value) in person.iter_mut().zip(fields) {
            *slot = value as f32;
        }
    }
    label
}

fn pixel_radius(camera: &CameraModel, point: [f64; 3], radius: f64) -> f64 {
    let away = (0..3).map(|axis| (point[axis] - camera.position[axis]).powi(2)).sum::<f64>().sqrt();
    (radius / away).min(1.0).asin() * camera.focal[0]
}

/// How the point of a horizontal plane moves with the pixel; zero where a ray misses the plane.
fn metres_per_pixel(camera: &CameraModel, pixel: [f64; 2], z: f64) -> [f64; 4] {
    let slope = |dx: f64, dy: f64| {
        let less = camera.on_plane([pixel[0] - dx, pixel[1] - dy], z)?;
        let more = camera.on_plane([pixel[0] + dx, pixel[1] + dy], z)?;
        Some([more[0] - less[0], more[1] - less[1]])
    };
    match (slope(0.5, 0.0), slope(0.0, 0.5)) {
        (Some(by_x), Some(by_y)) => [by_x[0], by_y[0], by_x[1], by_y[1]],
        _ => [0.0; 4],
    }
}
