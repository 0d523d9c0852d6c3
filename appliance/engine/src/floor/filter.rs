//! One person's extended Kalman filter: place and velocity on the floor and height of the head, from pixels.

use nalgebra::{Matrix2, Matrix2x3, Matrix5, SMatrix, Vector2, Vector5};

use super::camera::CameraModel;
use crate::time::Instant;

/// Height of a standing adult's head centre, metres, and its spread, wide enough for children.
pub(super) const HEAD_PRIOR: f64 = 1.58;
const HEAD_PRIOR_SD: f64 = 0.2;
/// Heads outside this range (metres) are not people: a child who can walk, a very tall adult.
pub(super) const HEAD_RANGE: [f64; 2] = [0.6, 2.0];
/// Walking people start, stop and turn within about half a second: power of white acceleration, m^2/s^3.
const ACCELERATION: f64 = 0.8;
/// The head bows and rises about the stature: an Ornstein-Uhlenbeck process of this time (s) and spread (m).
const BOW_TIME: f64 = 3.0;
const BOW_SD: f64 = 0.15;
/// Whom no camera sees slows down: people without detections stand at a shelf more often than they march on.
const COAST_TIME: f64 = 0.8;
/// Errors that more frames of one camera do not average out (calibration, sway of the head), metres.
const HEAD_FLOOR: f64 = 0.06;
/// The foot point wanders with the stride, metres.
const FOOT_FLOOR: f64 = 0.2;
/// Beyond these spreads the place says nothing, and the numbers stay well conditioned: m, m/s.
const POSITION_SD_MAX: f64 = 5.0;
const SPEED_SD_MAX: f64 = 1.2;
/// Heads farther from the camera than this (metres on the floor) are too small to begin a track.
const BIRTH_RANGE: f64 = 9.0;

type Matrix2x5 = SMatrix<f64, 2, 5>;

/// State (x, y, vx, vy, head height) in metres and seconds, and its covariance.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    pub at: Instant,
    pub mean: Vector5<f64>,
    pub covariance: Matrix5<f64>,
}

/// What a camera should see of a filter's head or foot, before the detection's own pixel noise.
pub(super) struct Expectation {
    pixel: Vector2<f64>,
    slope: Matrix2x5,
    spread: Matrix2<f64>,
}

impl Filter {
    /// A filter from one head pixel and the prior of heights; `None` where the ray does not come down to head
    /// height within range.
    pub fn born(camera: &CameraModel, head: [f64; 2], head_sd: f64, at: Instant) -> Option<Self> {
        let [x, y] = camera.on_plane(head, HEAD_PRIOR)?;
        let ray = camera.ray(head)?;
        if (x - camera.position[0]).hypot(y - camera.position[1]) > BIRTH_RANGE {
            return None;
        }
        let lean = Vector2::new(ray[0], ray[1]) / ray[2];
        let slope = camera.jacobian([x, y, HEAD_PRIOR])?;
        let across = slope.fixed_columns::<2>(0).into_owned().try_inverse()?;
        let noise = across * across.transpose() * head_sd.powi(2) + Matrix2::identity() * HEAD_FLOOR.powi(2);
        let height = HEAD_PRIOR_SD.powi(2);
        let mut covariance = Matrix5::zeros();
        covariance.fixed_view_mut::<2, 2>(0, 0).copy_from(&(noise + lean * lean.transpose() * height));
        covariance.fixed_view_mut::<2, 1>(0, 4).copy_from(&(lean * height));
        covariance.fixed_view_mut::<1, 2>(4, 0).copy_from(&(lean.transpose() * height));
        covariance[(2, 2)] = 1.0;
        covariance[(3, 3)] = 1.0;
        covariance[(4, 4)] = height;
        Some(Self { at, mean: Vector5::new(x, y, 0.0, 0.0, HEAD_PRIOR), covariance })
    }

    /// Moves the state forward to `to`; the past is left alone (see [`Self::expect`]).
    pub fn predict(&mut self, to: Instant, stature: f64, coasting: bool) {
        let span = to.since(self.at).as_seconds();
        if span <= 0.0 {
            return;
        }
        self.at = to;
        // After a long gap nothing but the limits below is left of the state, and long powers only lose
        // digits.
        let span = span.min(60.0);
        let keep = if coasting { (-span / COAST_TIME).exp() } else { 1.0 };
        let carry = if coasting { COAST_TIME * (1.0 - keep) } else { span };
        let upright = (-span / BOW_TIME).exp();
        let mut step = Matrix5::identity();
        for axis in 0..2 {
            step[(axis, axis + 2)] = carry;
            step[(axis + 2, axis + 2)] = keep;
        }
        step[(4, 4)] = upright;
        self.mean = step * self.mean;
        self.mean[4] += (1.0 - upright) * stature;
        self.covariance = step * self.covariance * step.transpose();
        for axis in 0..2 {
            let speed = axis + 2;
            self.covariance[(axis, axis)] += ACCELERATION * span.powi(3) / 3.0;
            self.covariance[(axis, speed)] += ACCELERATION * span.powi(2) / 2.0;
            self.covariance[(speed, axis)] += ACCELERATION * span.powi(2) / 2.0;
            self.covariance[(speed, speed)] += ACCELERATION * span;
        }
        self.covariance[(4, 4)] += BOW_SD.powi(2) * (1.0 - upright * upright);
        let limits = [POSITION_SD_MAX, POSITION_SD_MAX, SPEED_SD_MAX, SPEED_SD_MAX];
        for (axis, limit) in limits.into_iter().enumerate() {
            let spread = self.covariance[(axis, axis)].sqrt();
            if spread > limit {
                // Scaling row and column keeps the matrix positive.
                let scale = limit / spread;
                for other in 0..5 {
                    self.covariance[(axis, other)] *= scale;
                    self.covariance[(other, axis)] *= scale;
                }
            }
        }
    }

    /// Where `camera` should see the head at `at`. A frame from before the state is compared with the state
    /// moved back along its velocity, which is exact but for the acceleration in between.
    pub fn expect_head(&self, camera: &CameraModel, at: Instant) -> Option<Expectation> {
        self.expect(camera, at, self.mean[4], 1.0, HEAD_FLOOR)
    }

    /// Where `camera` should see the point between the feet at `at`.
    pub fn expect_foot(&self, camera: &CameraModel, at: Instant) -> Option<Expectation> {
        self.expect(camera, at, 0.0, 0.0, FOOT_FLOOR)
    }

    fn expect(
        &self,
        camera: &CameraModel,
        at: Instant,
        z: f64,
        rises: f64,
        floor: f64,
    ) -> Option<Expectation> {
        let lag = self.at.since(at).as_seconds();
        let place = [self.mean[0] - lag * self.mean[2], self.mean[1] - lag * self.mean[3], z];
        let pixel = Vector2::from(camera.project(place)?);
        let jacobian: Matrix2x3<f64> = camera.jacobian(place)?;
        let mut slope = Matrix2x5::zeros();
        for axis in 0..2 {
            slope.set_column(axis, &jacobian.column(axis));
            slope.set_column(axis + 2, &(jacobian.column(axis) * -lag));
        }
        slope.set_column(4, &(jacobian.column(2) * rises));
        let floor_plane = jacobian.fixed_columns::<2>(0);
        let spread = slope * self.covariance * slope.transpose()
            + jacobian * jacobian.transpose() * floor.powi(2)
            + floor_plane * floor_plane.transpose() * (ACCELERATION * lag.powi(3) / 3.0);
        Some(Expectation { pixel, slope, spread })
    }

    /// Corrects the state by a measured pixel.
    pub fn update(&mut self, expectation: &Expectation, pixel: [f64; 2], sd: f64) {
        let Some((inverse, _)) = expectation.information(sd) else { return };
        let gain = self.covariance * expectation.slope.transpose() * inverse;
        self.mean += gain * (Vector2::from(pixel) - expectation.pixel);
        let left = Matrix5::identity() - gain * expectation.slope;
        // Joseph's form: stays symmetric and positive whatever the rounding.
        let prior = expectation.slope * self.covariance * expectation.slope.transpose();
        let noise = expectation.spread + Matrix2::identity() * sd.powi(2) - prior;
        self.covariance = left * self.covariance * left.transpose() + gain * noise * gain.transpose();
        self.covariance = (self.covariance + self.covariance.transpose()) * 0.5;
        self.mean[4] = self.mean[4].clamp(HEAD_RANGE[0], HEAD_RANGE[1]);
    }

    /// Place on the floor, metres.
    pub fn position(&self) -> Vector2<f64> {
        Vector2::new(self.mean[0], self.mean[1])
    }

    /// Velocity on the floor, metres a second.
    pub fn velocity(&self) -> Vector2<f64> {
        Vector2::new(self.mean[2], self.mean[3])
    }

    /// Covariance of the place.
    pub fn position_covariance(&self) -> Matrix2<f64> {
        self.covariance.fixed_view::<2, 2>(0, 0).into_owned()
    }
}

impl Expectation {
    /// Where the point should be in the picture.
    pub fn pixel(&self) -> [f64; 2] {
        self.pixel.into()
    }

    /// Squared Mahalanobis distance of a pixel with its own noise, and the logarithm of the determinant of
    /// the innovation's covariance.
    pub fn distance(&self, pixel: [f64; 2], sd: f64) -> Option<(f64, f64)> {
        let (inverse, log_determinant) = self.information(sd)?;
        let innovation = Vector2::from(pixel) - self.pixel;
        Some(((innovation.transpose() * inverse * innovation)[0], log_determinant))
    }

    fn information(&self, sd: f64) -> Option<(Matrix2<f64>, f64)> {
        let covariance = self.spread + Matrix2::identity() * sd.powi(2);
        Some((covariance.try_inverse()?, covariance.determinant().ln()))
    }
}
