//! A ceiling camera's geometry: pose, pinhole intrinsics and fisheye distortion after Kannala and Brandt ("A
//! generic camera model and calibration method for conventional, wide-angle, and fish-eye lenses", IEEE PAMI
//! 28(8), 2006), in the four-coefficient form that OpenCV's `fisheye` module uses.

use nalgebra::{Matrix2x3, Matrix3, Vector2, Vector3};
use serde::{Deserialize, Serialize};

/// Rays farther than this from the optical axis (radians, 85 degrees) are outside the lens.
const THETA_MAX: f64 = 1.4835;

/// Lens and pose of a camera. Camera axes: x right, y down in the picture, z out along the optical axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraModel {
    /// Picture width, pixels.
    pub width: u32,
    /// Picture height, pixels.
    pub height: u32,
    /// Focal lengths in x and y, pixels.
    pub focal: [f64; 2],
    /// Principal point, pixels; (0, 0) is the outer corner of the first pixel, whose centre is at (0.5, 0.5).
    pub centre: [f64; 2],
    /// Distortion k1..k4: r = theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8).
    pub distortion: [f64; 4],
    /// Rows of the rotation from world to camera axes.
    pub rotation: [[f64; 3]; 3],
    /// The camera's place in the world, metres.
    pub position: [f64; 3],
}

impl CameraModel {
    /// A camera at `position` that looks at `target`, with `up` roughly towards the top of the picture.
    ///
    /// `horizontal_fov` is the full horizontal angle of view in radians, below 170 degrees; distortion is
    /// none (an ideal equidistant fisheye) until set.
    #[must_use]
    pub fn looking_at(
        size: [u32; 2],
        horizontal_fov: f64,
        position: [f64; 3],
        target: [f64; 3],
        up: [f64; 3],
    ) -> Self {
        let forward = (Vector3::from(target) - Vector3::from(position)).normalize();
        let right = forward.cross(&Vector3::from(up)).normalize();
        let down = forward.cross(&right);
        let focal = f64::from(size[0]) / 2.0 / (horizontal_fov / 2.0);
        Self {
            width: size[0],
            height: size[1],
            focal: [focal, focal],
            centre: [f64::from(size[0]) / 2.0, f64::from(size[1]) / 2.0],
            distortion: [0.0; 4],
            rotation: [right.into(), down.into(), forward.into()],
            position,
        }
    }

    /// Where a world point (metres) falls in the picture (pixels, perhaps outside its edges); `None` behind
    /// or beside the lens.
    #[must_use]
    pub fn project(&self, point: [f64; 3]) -> Option<[f64; 2]> {
        let local = self.to_camera() * (Vector3::from(point) - Vector3::from(self.position));
        let radius = local.x.hypot(local.y);
        let theta = radius.atan2(local.z);
        if theta > THETA_MAX {
            return None;
        }
        // On the axis the direction is undefined and the offset zero.
        let scale = if radius > 1e-12 { self.distort(theta) / radius } else { 0.0 };
        Some([
            self.focal[0] * local.x * scale + self.centre[0],
            self.focal[1] * local.y * scale + self.centre[1],
        ])
    }

    /// Whether a pixel position lies inside the picture.
    #[must_use]
    pub fn contains(&self, pixel: [f64; 2]) -> bool {
        (0.0..f64::from(self.width)).contains(&pixel[0]) && (0.0..f64::from(self.height)).contains(&pixel[1])
    }

    /// Unit direction in the world of the ray through a pixel position; `None` outside the lens.
    #[must_use]
    pub fn ray(&self, pixel: [f64; 2]) -> Option<[f64; 3]> {
        let x = (pixel[0] - self.centre[0]) / self.focal[0];
        let y = (pixel[1] - self.centre[1]) / self.focal[1];
        let distorted = x.hypot(y);
        let theta = self.undistort(distorted)?;
        let local = if distorted > 1e-12 {
            let scale = theta.sin() / distorted;
            Vector3::new(x * scale, y * scale, theta.cos())
        } else {
            Vector3::z()
        };
        Some((self.to_camera().transpose() * local).into())
    }

    /// Where the ray through a pixel meets the horizontal plane at height `z`, metres; `None` when it never
    /// does in front of the camera.
    #[must_use]
    pub fn on_plane(&self, pixel: [f64; 2], z: f64) -> Option<[f64; 2]> {
        let ray = self.ray(pixel)?;
        let distance = (z - self.position[2]) / ray[2];
        (distance.is_finite() && distance > 0.0)
            .then(|| [self.position[0] + distance * ray[0], self.position[1] + distance * ray[1]])
    }

    /// Derivative of `project` at a world point, pixels per metre, by central differences of 1 mm (the closed
    /// form gains nothing at this use and is easy to get wrong). `None` where `project` is.
    #[must_use]
    pub fn jacobian(&self, point: [f64; 3]) -> Option<Matrix2x3<f64>> {
        const STEP: f64 = 1e-3;
        let mut jacobian = Matrix2x3::zeros();
        for axis in 0..3 {
            let (mut less, mut more) = (point, point);
            less[axis] -= STEP;
            more[axis] += STEP;
            let slope = Vector2::from(self.project(more)?) - Vector2::from(self.project(less)?);
            jacobian.set_column(axis, &(slope / (2.0 * STEP)));
        }
        Some(jacobian)
    }

    fn to_camera(&self) -> Matrix3<f64> {
        Matrix3::from_fn(|row, column| self.rotation[row][column])
    }

    fn distort(&self, theta: f64) -> f64 {
        let square = theta * theta;
        let [k1, k2, k3, k4] = self.distortion;
        theta * (1.0 + square * (k1 + square * (k2 + square * (k3 + square * k4))))
    }

    /// Inverse of `distort` by Newton's method from the identity; lens polynomials are monotone inside the
    /// lens.
    fn undistort(&self, distorted: f64) -> Option<f64> {
        let [k1, k2, k3, k4] = self.distortion;
        let mut theta = distorted;
        for _ in 0..20 {
            let square = theta * theta;
            let slope =
                1.0 + square * (3.0 * k1 + square * (5.0 * k2 + square * (7.0 * k3 + square * 9.0 * k4)));
            let step = (self.distort(theta) - distorted) / slope;
            theta -= step;
            if step.abs() < 1e-12 {
                break;
            }
        }
        (theta.is_finite() && (0.0..=THETA_MAX).contains(&theta)).then_some(theta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera() -> CameraModel {
        let mut camera =
            CameraModel::looking_at([320, 192], 1.9, [2.0, 3.0, 3.0], [3.0, 3.5, 0.0], [0.0, 1.0, 0.0]);
        camera.distortion = [-0.02, 0.003, -0.001, 0.0];
        camera
    }

    #[test]
    fn a_ray_through_a_projected_point_meets_it_again() {
        let camera = camera();
        for point in [[2.0, 3.0, 0.0], [4.0, 4.0, 1.7], [1.0, 2.0, 0.5], [3.0, 3.5, 0.0]] {
            let pixel = camera.project(point).expect("in front of the lens");
            let met = camera.on_plane(pixel, point[2]).expect("meets the plane");
            assert!((met[0] - point[0]).hypot(met[1] - point[1]) < 1e-9, "{point:?} came back as {met:?}");
        }
    }

    #[test]
    fn axes_point_as_documented() {
        // Straight down with +y up in the picture: +x of the world is right, +y is up (smaller row).
        let camera =
            CameraModel::looking_at([320, 192], 1.9, [0.0, 0.0, 3.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]);
        let [x, y] = camera.project([0.5, 0.5, 0.0]).expect("seen");
        assert!(x > 160.0 && y < 96.0, "({x}, {y})");
    }

    #[test]
    fn what_is_above_the_lens_is_not_seen() {
        assert_eq!(camera().project([2.0, 3.0, 4.0]), None);
    }
}
