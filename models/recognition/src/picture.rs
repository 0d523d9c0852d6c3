//! A camera's picture as the network wants it: 320 x 192, planes of red, green and blue from 0 to 255.

/// The network's picture, pixels.
pub const WIDTH: usize = 320;
/// The network's picture, pixels.
pub const HEIGHT: usize = 192;

/// How a picture was fitted into the network's: scaled evenly and centred, black beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    scale: f32,
    left: f32,
    top: f32,
}

impl Fit {
    fn new(width: usize, height: usize) -> Self {
        let scale = (WIDTH as f32 / width as f32).min(HEIGHT as f32 / height as f32);
        let margin =
            |whole: usize, part: usize| ((whole as f32 - part as f32 * scale) / 2.0).max(0.0).round();
        Self { scale, left: margin(WIDTH, width), top: margin(HEIGHT, height) }
    }

    /// A position of the network's picture as one of the camera's.
    #[must_use]
    pub fn back(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        [(x - self.left) / self.scale, (y - self.top) / self.scale]
    }
}

/// Writes the picture into `planes` (three of `WIDTH` x `HEIGHT`). `rgb` holds width x height triples.
pub fn fit(width: usize, height: usize, rgb: &[u8], planes: &mut [f32]) -> Fit {
    let fit = Fit::new(width, height);
    let (red, rest) = planes.split_at_mut(WIDTH * HEIGHT);
    let (green, blue) = rest.split_at_mut(WIDTH * HEIGHT);
    if (width, height) == (WIDTH, HEIGHT) {
        for (pixel, triple) in rgb.chunks_exact(3).enumerate() {
            red[pixel] = f32::from(triple[0]);
            green[pixel] = f32::from(triple[1]);
            blue[pixel] = f32::from(triple[2]);
        }
        return fit;
    }
    let columns = spans(WIDTH, fit.left, fit.scale, width);
    let rows = spans(HEIGHT, fit.top, fit.scale, height);
    for (row, &(top, bottom)) in rows.iter().enumerate() {
        for (column, &(left, right)) in columns.iter().enumerate() {
            let mut sum = [0_u32; 3];
            for line in top..bottom {
                for triple in rgb[(line * width + left) * 3..(line * width + right) * 3].chunks_exact(3) {
                    for channel in 0..3 {
                        sum[channel] += u32::from(triple[channel]);
                    }
                }
            }
            let count = ((bottom - top) * (right - left)).max(1) as f32;
            let pixel = row * WIDTH + column;
            red[pixel] = sum[0] as f32 / count;
            green[pixel] = sum[1] as f32 / count;
            blue[pixel] = sum[2] as f32 / count;
        }
    }
    fit
}

/// For each of `count` places, which of `length` source places it averages; an empty span beside the picture.
fn spans(count: usize, margin: f32, scale: f32, length: usize) -> Vec<(usize, usize)> {
    (0..count)
        .map(|place| {
            let from = (place as f32 - margin) / scale;
            let to = (place as f32 + 1.0 - margin) / scale;
            if (from + to) / 2.0 < 0.0 || (from + to) / 2.0 >= length as f32 {
                return (0, 0);
            }
            let first = (from.round().max(0.0) as usize).min(length - 1);
            (first, (to.round() as usize).clamp(first + 1, length))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_the_right_size_is_only_turned_into_planes() {
        let rgb: Vec<u8> = (0..WIDTH * HEIGHT * 3).map(|index| (index % 251) as u8).collect();
        let mut planes = vec![0.0; WIDTH * HEIGHT * 3];
        let fit = fit(WIDTH, HEIGHT, &rgb, &mut planes);
        assert_eq!(planes[WIDTH * HEIGHT + 7], f32::from(rgb[7 * 3 + 1]));
        assert_eq!(fit.back([12.5, 30.0]), [12.5, 30.0]);
    }

    #[test]
    fn other_sizes_keep_their_shape() {
        // A white dot of 640 x 360 at (400, 200) lands where `back` says it came from.
        let (width, height) = (640, 360);
        let mut rgb = vec![0; width * height * 3];
        for line in 200..204 {
            rgb[(line * width + 400) * 3..(line * width + 404) * 3].fill(255);
        }
        let mut planes = vec![9.0; WIDTH * HEIGHT * 3];
        let fit = fit(width, height, &rgb, &mut planes);
        assert!(planes[..WIDTH].iter().all(|value| *value == 0.0), "black above");
        let brightest = (0..WIDTH * HEIGHT).max_by(|a, b| planes[*a].total_cmp(&planes[*b])).expect("pixels");
        let [x, y] = fit.back([(brightest % WIDTH) as f32 + 0.5, (brightest / WIDTH) as f32 + 0.5]);
        assert!((x - 402.0).abs() < 4.0 && (y - 202.0).abs() < 4.0, "({x}, {y})");
    }

    #[test]
    fn any_size_fits() {
        for (width, height) in [(1, 1), (1, 999), (999, 1), (319, 193), (33, 17), (2592, 1944)] {
            let mut planes = vec![9.0; WIDTH * HEIGHT * 3];
            fit(width, height, &vec![200; width * height * 3], &mut planes);
            assert!(planes.iter().all(|value| *value == 0.0 || *value == 200.0), "{width} x {height}");
            // A line of one pixel's width vanishes; anything like a picture does not.
            assert!(planes.contains(&200.0) || width.min(height) == 1, "{width} x {height}");
        }
    }
}
