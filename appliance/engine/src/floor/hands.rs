//! Hands in space: rays of several cameras crossed, or one camera's ray cut where an arm can reach.

use nalgebra::{Matrix3, Vector3};

use super::Sighting;
use super::camera::CameraModel;
use super::filter::Filter;
use super::track::Track;
use crate::message::Hand;
use crate::time::{Instant, Millis};
use crate::units::CameraId;

/// Rays captured within this time of each other may be crossed.
const TOGETHER: Millis = Millis(150);
/// Rays older than this say nothing about now.
const OLD: Millis = Millis(250);
/// Rays that pass each other at more than this do not show one hand, metres.
const RESIDUAL: f64 = 0.12;
/// No hand is farther from between the shoulders than a long arm, a shoulder and the body's lean, metres.
const REACH_MAX: f64 = 1.1;
/// A hand of which one camera only knows the direction is looked for within this distance, metres.
const REACH: f64 = 0.8;
/// From the head's centre down to the shoulders, metres.
const SHOULDER: f64 = 0.2;
/// Pixel noise of a hand, and what frames share (calibration, time between frames), metres.
const HAND_SD: f64 = 3.0;
const HAND_FLOOR: f64 = 0.03;

/// The ray through a hand's pixel.
#[derive(Clone, Debug)]
pub(super) struct HandRay {
    pub camera: CameraId,
    at: Instant,
    origin: Vector3<f64>,
    direction: Vector3<f64>,
    /// Standard deviation of the direction, radians.
    spread: f64,
}

impl HandRay {
    pub fn new(model: &CameraModel, sighting: &Sighting, pixel: [f64; 2]) -> Option<Self> {
        if !pixel.iter().all(|value| value.is_finite()) {
            return None;
        }
        Some(Self {
            camera: sighting.camera,
            at: sighting.at,
            origin: model.position.into(),
            direction: model.ray(pixel)?.into(),
            spread: HAND_SD / model.focal[0].min(model.focal[1]),
        })
    }

    /// Nearest point to `point`, and its distance from it.
    fn nearest(&self, point: Vector3<f64>) -> (Vector3<f64>, f64) {
        let foot = self.origin + self.direction * (point - self.origin).dot(&self.direction);
        (foot, (foot - point).norm())
    }
}

/// A track's hands at `now`, at most two, best known first.
pub(super) fn in_space(track: &Track, filter: &Filter, now: Instant) -> Vec<Hand> {
    let Some(newest) = track.rays.iter().map(|ray| ray.at).max().filter(|newest| now.since(*newest) <= OLD)
    else {
        return Vec::new();
    };
    let velocity = Vector3::new(filter.mean[2], filter.mean[3], 0.0);
    let shoulders = Vector3::new(filter.mean[0], filter.mean[1], filter.mean[4] - SHOULDER);
    let mut rays: Vec<HandRay> = track
        .rays
        .iter()
        .filter(|ray| newest.since(ray.at) <= TOGETHER)
        .map(|ray| {
            // A hand moves with its body: the ray is carried along to now.
            let span = now.since(ray.at).as_seconds() - ray.at.since(now).as_seconds();
            HandRay { origin: ray.origin + velocity * span, ..ray.clone() }
        })
        .collect();
    let mut hands = Vec::new();
    while hands.len() < 2 {
        let Some((point, sd, used)) = crossed(&rays, shoulders) else { break };
        hands.push(Hand { position: point.into(), sd });
        let mut index = 0;
        rays.retain(|_| {
            index += 1;
            !used.contains(&(index - 1))
        });
    }
    rays.sort_by(|a, b| a.nearest(shoulders).1.total_cmp(&b.nearest(shoulders).1));
    for ray in &rays {
        let known = |hand: &Hand| ray.nearest(hand.position.into()).1 < 2.0 * RESIDUAL;
        if hands.len() >= 2 || hands.iter().any(known) {
            continue;
        }
        let (middle, distance) = ray.nearest(shoulders);
        if distance < REACH {
            // Anywhere on the chord alike.
            let sd = (REACH.powi(2) - distance.powi(2)).sqrt() / 3.0_f64.sqrt();
            hands.push(Hand { position: middle.into(), sd: sd.max(0.1) });
        }
    }
    hands
}

/// The best crossing of two or more cameras' rays: point, standard deviation, and which rays went in.
fn crossed(rays: &[HandRay], shoulders: Vector3<f64>) -> Option<(Vector3<f64>, f64, Vec<usize>)> {
    let mut best: Option<(f64, Vec<usize>)> = None;
    for (first, a) in rays.iter().enumerate() {
        for (second, b) in rays.iter().enumerate().skip(first + 1) {
            if a.camera == b.camera {
                continue;
            }
            let Some((point, _)) = meeting(rays, &[first, second]) else { continue };
            let mut used = vec![first, second];
            let mut residual = a.nearest(point).1.max(b.nearest(point).1);
            if residual > RESIDUAL / 2.0 || (point - shoulders).norm() > REACH_MAX {
                continue;
            }
            for (third, c) in rays.iter().enumerate() {
                let other_camera = used.iter().all(|index| rays[*index].camera != c.camera);
                if other_camera && c.nearest(point).1 <= RESIDUAL {
                    residual = residual.max(c.nearest(point).1);
                    used.push(third);
                }
            }
            // Each further camera that agrees outweighs any residual: two rays cross by chance, three hardly.
            let cost = residual - RESIDUAL * used.len() as f64;
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, used));
            }
        }
    }
    let (_, used) = best?;
    let (point, sd) = meeting(rays, &used)?;
    let inside = (point - shoulders).norm() <= REACH_MAX && point.z > 0.0;
    inside.then_some((point, sd, used))
}

/// The point of least squared distances from rays, each weighed by its spread there, and its standard deviation.
fn meeting(rays: &[HandRay], used: &[usize]) -> Option<(Vector3<f64>, f64)> {
    let mut point = None;
    let mut sd = 0.0;
    // Twice, because the weights need the distance from the camera.
    for _ in 0..2 {
        let mut information = Matrix3::zeros();
        let mut sum = Vector3::zeros();
        for index in used {
            let ray = &rays[*index];
            let distance = point.map_or(2.0, |point: Vector3<f64>| (point - ray.origin).norm());
            let weight = 1.0 / ((ray.spread * distance).powi(2) + HAND_FLOOR.powi(2));
            let across = (Matrix3::identity() - ray.direction * ray.direction.transpose()) * weight;
            information += across;
            sum += across * ray.origin;
        }
        let covariance = information.try_inverse()?;
        sd = (covariance.trace() / 3.0).sqrt();
        point = Some(covariance * sum);
    }
    point.filter(|point| point.iter().all(|value| value.is_finite())).map(|point| (point, sd))
}
