//! A body as the round shapes that it is drawn from.

use engine::floor::camera::CameraModel;

use super::Part;
use super::shape::{Capsule, Vec3, add, dot, scale, single, subtract, unit};
use crate::body::{BagKind, Body};

/// Bag straps, bottoms and such are left out: they are below a pixel.
pub struct Piece {
    pub capsule: Capsule,
    pub part: Part,
    skin: Skin,
    ends: [Vec3; 2],
    radius: f32,
}

/// How a piece is coloured.
enum Skin {
    Flat(Vec3),
    /// Hair above and behind, face below and in front; holds the way forward.
    Head(Vec3),
    /// Cloth of the top, with its stripes.
    Top,
}

/// The body's pieces, seen from `eye`.
pub fn pieces(body: &Body, eye: Vec3) -> Vec<Piece> {
    let figure = &body.figure;
    let colours = &figure.colours;
    let height = figure.height as f32;
    let girth = figure.build as f32;
    let forward = [body.heading.cos() as f32, body.heading.sin() as f32, 0.0];
    let flat = |colour: [u8; 3]| Skin::Flat(colour.map(f32::from));
    let mut pieces = Vec::with_capacity(24);
    let mut add_piece = |from: Vec3, to: Vec3, radius: f32, squash: f32, skin: Skin, part: Part| {
        let radius = radius * height;
        let rows = (squash > 1.0).then(|| squash_along(forward, squash));
        pieces.push(Piece {
            capsule: Capsule::new(eye, from, to, radius, rows),
            part,
            skin,
            ends: [from, to],
            radius,
        });
    };

    let head = single(body.head);
    let neck = single(body.neck);
    let up = unit(subtract(head, neck));
    let crown = scale(up, 0.012 * height);
    add_piece(subtract(head, crown), add(head, crown), 0.058, 1.0, Skin::Head(forward), Part::Head);
    if figure.long_hair {
        let behind = scale(forward, -0.035 * height);
        add_piece(add(head, behind), add(neck, behind), 0.05, 1.0, flat(colours.hair), Part::Head);
    }
    add_piece(neck, head, 0.032, 1.0, flat(colours.skin), Part::Rest);

    let shoulders = body.shoulders.map(single);
    let hips = body.hips.map(single);
    let chest = scale(add(shoulders[0], shoulders[1]), 0.5);
    let pelvis = scale(add(hips[0], hips[1]), 0.5);
    let along = subtract(chest, pelvis);
    let trunk = 0.092 * girth;
    add_piece(
        add(pelvis, scale(along, 0.12)),
        add(pelvis, scale(along, 0.78)),
        trunk,
        1.45,
        Skin::Top,
        Part::Rest,
    );
    add_piece(shoulders[0], shoulders[1], 0.043 * girth.sqrt(), 1.0, Skin::Top, Part::Rest);
    add_piece(hips[0], hips[1], 0.07 * girth, 1.0, flat(colours.trousers), Part::Rest);

    for side in 0..2 {
        let knee = single(body.knees[side]);
        let foot = single(body.feet[side]);
        add_piece(hips[side], knee, 0.047 * girth, 1.0, flat(colours.trousers), Part::Rest);
        add_piece(knee, foot, 0.033 * girth, 1.0, flat(colours.trousers), Part::Rest);
        let heel = [foot[0], foot[1], (foot[2] - 0.015 * height).max(0.02)];
        let toe = add(heel, scale(forward, 0.11 * height));
        add_piece(heel, toe, 0.024, 1.0, flat(colours.shoes), Part::Rest);

        let elbow = single(body.elbows[side]);
        let hand = single(body.wrists[side]);
        let pointing = unit(subtract(hand, elbow));
        let wrist = subtract(hand, scale(pointing, 0.045 * height));
        add_piece(shoulders[side], elbow, 0.031 * girth, 1.0, Skin::Top, Part::Rest);
        let sleeve = if figure.short_sleeves { flat(colours.skin) } else { Skin::Top };
        let thick = if figure.short_sleeves { 0.024 } else { 0.028 };
        add_piece(elbow, wrist, thick * girth.sqrt(), 1.0, sleeve, Part::Rest);
        let part = if side == 0 { Part::LeftHand } else { Part::RightHand };
        let reach = scale(pointing, 0.028 * height);
        add_piece(subtract(hand, reach), add(hand, reach), 0.024, 1.0, flat(colours.skin), part);
    }

    if let Some(bag) = figure.bag {
        let (from, to, radius) = match bag.kind {
            BagKind::Backpack => {
                let behind = scale(forward, -0.11 * height * girth);
                let low = add(add(pelvis, scale(along, 0.35)), behind);
                (low, add(add(pelvis, scale(along, 0.85)), behind), 0.075)
            }
            BagKind::Shoulder => {
                let beside = scale(subtract(shoulders[0], shoulders[1]), 0.62);
                let low = add(pelvis, beside);
                (low, add(low, [0.0, 0.0, 0.08 * height]), 0.06)
            }
        };
        add_piece(from, to, radius, 1.3, flat(bag.colour), Part::Rest);
    }
    pieces
}

/// The colour of a point of a piece, before light.
pub fn paint(piece: &Piece, body: &Body, point: Vec3, normal: Vec3) -> Vec3 {
    let colours = &body.figure.colours;
    match piece.skin {
        Skin::Flat(colour) => colour,
        Skin::Head(forward) => {
            let hairy = 0.8 * normal[2] - 0.75 * dot(normal, forward) > 0.0;
            (if hairy { colours.hair } else { colours.skin }).map(f32::from)
        }
        Skin::Top => match colours.stripes {
            Some(stripe) if (point[2] * 11.0).rem_euclid(1.0) < 0.45 => stripe.map(f32::from),
            _ => colours.top.map(f32::from),
        },
    }
}

/// Pixels that a piece can cover: left, top, right, bottom (the last two beyond the end); `None` when none, or when it
/// encloses the lens.
pub fn extent(camera: &CameraModel, piece: &Piece) -> Option<[usize; 4]> {
    if piece.capsule.holds_eye() {
        return None;
    }
    let eye = single(camera.position);
    let middle = scale(add(piece.ends[0], piece.ends[1]), 0.5);
    let size = [f64::from(camera.width), f64::from(camera.height)];
    let mut least = [f64::INFINITY; 2];
    let mut most = [f64::NEG_INFINITY; 2];
    for point in [piece.ends[0], middle, piece.ends[1]] {
        let Some(pixel) = camera.project(point.map(f64::from)) else { continue };
        let away = subtract(point, eye);
        let share = f64::from(piece.radius * piece.radius / dot(away, away)).min(1.0).sqrt();
        for axis in 0..2 {
            // Away from the axis a fisheye stretches across by up to theta / sin theta, 1.5 at 85 degrees.
            let radius = share.asin() * camera.focal[axis] * 1.55 + 1.0;
            least[axis] = least[axis].min(pixel[axis] - radius);
            most[axis] = most[axis].max(pixel[axis] + radius);
        }
    }
    if !least[0].is_finite() {
        return None;
    }
    let low = |axis: usize| least[axis].clamp(0.0, size[axis]) as usize;
    let high = |axis: usize| most[axis].clamp(0.0, size[axis]).ceil() as usize;
    Some([low(0), low(1), high(0), high(1)])
}

/// Rows of the map that stretches space along a direction, so that what is round there is flat here.
fn squash_along(direction: Vec3, factor: f32) -> [Vec3; 3] {
    [0, 1, 2].map(|row| {
        let mut line = scale(direction, (factor - 1.0) * direction[row]);
        line[row] += 1.0;
        line
    })
}
