//! Ray tests against the few shapes that the simulator's pictures are made of. Metres, single precision: the pictures
//! are for eyes and networks, the truth is kept elsewhere.

/// A point or direction.
pub type Vec3 = [f32; 3];

/// A cylinder with round ends, seen from one fixed point, perhaps squashed: points are compared after `squash`.
#[derive(Clone, Copy, Debug)]
pub struct Capsule {
    axis: Vec3,
    radius: f32,
    /// Rows of the map into the space where the capsule is round; `None` is the identity.
    squash: Option<[Vec3; 3]>,
    // What does not change from ray to ray.
    eye: Vec3,
    axis_square: f32,
    eye_along: f32,
    side_constant: f32,
}

/// An axis-aligned box.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Least x, y, z.
    pub least: Vec3,
    /// Greatest x, y, z.
    pub most: Vec3,
}

/// Where a ray meets a shape.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    /// In lengths of the ray's direction.
    pub distance: f32,
    /// Outward, of length one.
    pub normal: Vec3,
}

impl Capsule {
    /// From `start` to `end`, seen from `eye`. Equal ends make a sphere.
    #[must_use]
    pub fn new(eye: Vec3, start: Vec3, end: Vec3, radius: f32, squash: Option<[Vec3; 3]>) -> Self {
        let map = |point| squash.map_or(point, |rows| apply(rows, point));
        let (start, end) = (map(start), map(end));
        let axis = subtract(end, start);
        let eye = subtract(map(eye), start);
        let axis_square = dot(axis, axis);
        let eye_along = dot(axis, eye);
        let side_constant =
            axis_square * dot(eye, eye) - eye_along * eye_along - radius * radius * axis_square;
        Self { axis, radius, squash, eye, axis_square, eye_along, side_constant }
    }

    /// Where a ray from the eye first meets it.
    #[must_use]
    pub fn hit(&self, direction: Vec3) -> Option<Hit> {
        let ray = self.squash.map_or(direction, |rows| apply(rows, direction));
        let ray_square = dot(ray, ray);
        let axis_ray = dot(self.axis, ray);
        let a = self.axis_square * ray_square - axis_ray * axis_ray;
        let b = self.axis_square * dot(ray, self.eye) - self.eye_along * axis_ray;
        let root = b * b - a * self.side_constant;
        if root < 0.0 {
            return None;
        }
        let (distance, along) = if a > 1e-9 {
            let distance = (-b - root.sqrt()) / a;
            (distance, self.eye_along + distance * axis_ray)
        } else {
            (0.0, if axis_ray > 0.0 { -1.0 } else { self.axis_square + 1.0 })
        };
        if a > 1e-9 && along > 0.0 && along < self.axis_square {
            return (distance > 0.0).then(|| {
                let point = add(self.eye, scale(ray, distance));
                self.answer(distance, subtract(point, scale(self.axis, along / self.axis_square)))
            });
        }
        let centre = if along <= 0.0 { [0.0; 3] } else { self.axis };
        let eye = subtract(self.eye, centre);
        let b = dot(ray, eye);
        let root = b * b - ray_square * (dot(eye, eye) - self.radius * self.radius);
        if root < 0.0 {
            return None;
        }
        let distance = (-b - root.sqrt()) / ray_square;
        (distance > 0.0).then(|| self.answer(distance, add(eye, scale(ray, distance))))
    }

    /// Whether the eye is inside.
    #[must_use]
    pub fn holds_eye(&self) -> bool {
        let along =
            if self.axis_square > 0.0 { (self.eye_along / self.axis_square).clamp(0.0, 1.0) } else { 0.0 };
        let away = subtract(self.eye, scale(self.axis, along));
        dot(away, away) <= self.radius * self.radius
    }

    fn answer(&self, distance: f32, outward: Vec3) -> Hit {
        let normal = match self.squash {
            None => scale(outward, 1.0 / self.radius),
            // Normals go back by the transpose.
            Some([x, y, z]) => {
                unit(add(add(scale(x, outward[0]), scale(y, outward[1])), scale(z, outward[2])))
            }
        };
        Hit { distance, normal }
    }
}

impl Block {
    /// Where a ray from `eye` first enters it; `None` when it misses or the eye is inside.
    #[must_use]
    pub fn hit(&self, eye: Vec3, direction: Vec3) -> Option<Hit> {
        let mut near = 0.0_f32;
        let mut far = f32::INFINITY;
        let mut normal = [0.0; 3];
        for axis in 0..3 {
            if direction[axis].abs() < 1e-9 {
                if eye[axis] < self.least[axis] || eye[axis] > self.most[axis] {
                    return None;
                }
                continue;
            }
            let one = (self.least[axis] - eye[axis]) / direction[axis];
            let other = (self.most[axis] - eye[axis]) / direction[axis];
            let (enter, leave) = if one < other { (one, other) } else { (other, one) };
            if enter > near {
                near = enter;
                normal = [0.0; 3];
                normal[axis] = -direction[axis].signum();
            }
            far = far.min(leave);
        }
        (near > 0.0 && near <= far).then_some(Hit { distance: near, normal })
    }
}

pub fn add(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

pub fn subtract(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub fn scale(a: Vec3, factor: f32) -> Vec3 {
    [a[0] * factor, a[1] * factor, a[2] * factor]
}

pub fn dot(a: Vec3, b: Vec3) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub fn unit(a: Vec3) -> Vec3 {
    let length = dot(a, a).sqrt();
    if length > 1e-12 { scale(a, 1.0 / length) } else { [0.0, 0.0, 1.0] }
}

pub fn single(a: [f64; 3]) -> Vec3 {
    [a[0] as f32, a[1] as f32, a[2] as f32]
}

fn apply(rows: [Vec3; 3], point: Vec3) -> Vec3 {
    [dot(rows[0], point), dot(rows[1], point), dot(rows[2], point)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rays_meet_capsules_where_geometry_says() {
        let eye = [0.0, 0.0, 3.0];
        let down = [0.0, 0.0, -1.0];
        let flat = Capsule::new(eye, [-1.0, 0.0, 1.0], [1.0, 0.0, 1.0], 0.2, None);
        let hit = flat.hit(down).expect("its side");
        assert!((hit.distance - 1.8).abs() < 1e-5 && hit.normal[2] > 0.999);
        let upright = Capsule::new(eye, [0.0, 0.0, 0.0], [0.0, 0.0, 1.0], 0.2, None);
        assert!((upright.hit(down).expect("its end").distance - 1.8).abs() < 1e-5);
        let sphere = Capsule::new(eye, [0.1, 0.0, 1.0], [0.1, 0.0, 1.0], 0.2, None);
        assert!(sphere.hit(down).is_some() && sphere.hit([0.0, 0.0, 1.0]).is_none());
        assert!(sphere.hit([1.0, 0.0, -1.0]).is_none());
        // Half as high when squashed twofold along z.
        let squash = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]];
        let lens = Capsule::new(eye, [0.0, 0.0, 1.0], [0.0, 0.0, 1.0], 0.2, Some(squash));
        assert!((lens.hit(down).expect("its top").distance - 1.9).abs() < 1e-5);
    }

    #[test]
    fn rays_meet_blocks_on_the_near_face() {
        let block = Block { least: [-1.0, -1.0, 0.0], most: [1.0, 1.0, 1.0] };
        let hit = block.hit([0.0, 0.0, 3.0], [0.0, 0.0, -1.0]).expect("the top");
        assert_eq!((hit.distance, hit.normal), (2.0, [0.0, 0.0, 1.0]));
        assert!(block.hit([5.0, 0.0, 3.0], [0.0, 0.0, -1.0]).is_none());
    }
}
