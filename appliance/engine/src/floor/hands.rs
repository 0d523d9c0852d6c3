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
/// How far out from between the shoulders hands mostly are, and how far up: mean and spread, metres. Wide
/// enough for the highest shelf and the floor.
const OUT: [f64; 2] = [0.35, 0.2];
const DOWN: [f64; 2] = [-0.5, 0.35];
/// What strangeness costs in metres of residual, when a crossing of rays is chosen.
const STRANGE: f64 = 0.02;
/// And in metres of standard deviation of the crossing itself.
const DOUBT: f64 = 0.05;
/// Steps along a ray of which no other camera tells the distance, metres.
const STEP: f64 = 0.05;
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

    /// Where along this ray alone the hand is, by where hands mostly are.
    fn along(&self, shoulders: Vector3<f64>) -> Option<Hand> {
        let middle = (shoulders - self.origin).dot(&self.direction);
        let (mut weight, mut mean, mut square) = (0.0, 0.0, 0.0);
        let steps = (REACH_MAX / STEP) as i32;
        for step in -steps..=steps {
            let offset = f64::from(step) * STEP;
            let Some(strange) = strangeness(self.origin + self.direction * (middle + offset), shoulders)
            else {
                continue;
            };
            let likely = (-strange).exp();
            weight += likely;
            mean += likely * offset;
            square += likely * offset * offset;
        }
        // Far from everywhere that hands are.
        if weight * STEP < 0.05 {
            return None;
        }
        let (mean, square) = (mean / weight, square / weight);
        let position = self.origin + self.direction * (middle + mean);
        Some(Hand { position: position.into(), sd: (square - mean * mean).max(0.0).sqrt().max(0.1) })
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
    rays.retain(|ray| !hands.iter().any(|hand| ray.nearest(hand.position.into()).1 < 2.0 * RESIDUAL));
    let mut single: Vec<(Hand, usize)> =
        rays.iter().enumerate().filter_map(|(index, ray)| Some((ray.along(shoulders)?, index))).collect();
    single.sort_by(|a, b| a.0.sd.total_cmp(&b.0.sd).then(a.1.cmp(&b.1)));
    // One of one camera: a second camera's ray may show the same hand.
    hands.extend(single.into_iter().take(usize::from(hands.len() < 2)).map(|(hand, _)| hand));
    hands
}

/// Half the squared standard deviations from where hands mostly are, seen from between the shoulders: they
/// hang, carry or reach forward, and what seems to be a hand at the head is the head. `None` where no hand
/// can be.
fn strangeness(point: Vector3<f64>, shoulders: Vector3<f64>) -> Option<f64> {
    let offset = point - shoulders;
    let out = offset.x.hypot(offset.y);
    let at_head = out < 0.2 && offset.z > -0.3;
    if at_head || offset.norm() > REACH_MAX || point.z < 0.0 {
        return None;
    }
    Some(((out - OUT[0]) / OUT[1]).powi(2) / 2.0 + ((offset.z - DOWN[0]) / DOWN[1]).powi(2) / 2.0)
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
            let Some(strange) = strangeness(point, shoulders).filter(|_| residual <= RESIDUAL / 2.0) else {
                continue;
            };
            for (third, c) in rays.iter().enumerate() {
                let other_camera = used.iter().all(|index| rays[*index].camera != c.camera);
                if other_camera && c.nearest(point).1 <= RESIDUAL {
                    residual = residual.max(c.nearest(point).1);
                    used.push(third);
                }
            }
            // Each further camera that agrees outweighs any residual: two rays cross by chance, three hardly.
            let cost = residual + STRANGE * strange - RESIDUAL * used.len() as f64;
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, used));
            }
        }
    }
    let (_, used) = best?;
    let (point, sd) = meeting(rays, &used)?;
    // The stranger the place, the likelier that the rays of two different things crossed there.
    strangeness(point, shoulders).map(|strange| (point, sd.hypot(DOUBT * strange), used))
}

/// The point of least squared distances from rays, each weighed by its spread there, and its standard
/// deviation.
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
