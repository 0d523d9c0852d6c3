//! Copies of a picture in which a decoder finds more: sharper, evener, larger, smaller. Pure, and written so that
//! a compiler makes vector code of the inner loops: a frame has a million pixels and 30 ms.

use image::GrayImage;

/// Unsharp mask: 2.5 times the picture less 1.5 times its blur. Repairs moiré, motion and defocus.
#[must_use]
pub fn sharpened(picture: &GrayImage) -> GrayImage {
    let mut blurred = smoothed(picture);
    for (blur, pixel) in blurred.iter_mut().zip(picture.as_raw()) {
        let (pixel, soft) = (i16::from(*pixel), i16::from(*blur));
        *blur = ((5 * pixel - 3 * soft + 1) >> 1).clamp(0, 255) as u8;
    }
    blurred
}

/// Blur of sigma 2 pixels: twice the mean of five, along lines and across. What is finer than a module
/// disappears.
#[must_use]
pub fn smoothed(picture: &GrayImage) -> GrayImage {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    if width == 0 || height == 0 {
        return picture.clone();
    }
    // Weights of two means of five in a row.
    const WEIGHTS: [u16; 9] = [1, 2, 3, 4, 5, 4, 3, 2, 1];
    const REACH: usize = 4;
    let mut lines = vec![0_u16; width * height];
    let mut padded = vec![0_u16; width + 2 * REACH];
    for (row, out) in picture.as_raw().chunks_exact(width).zip(lines.chunks_exact_mut(width)) {
        padded[..REACH].fill(u16::from(row[0]));
        padded[REACH + width..].fill(u16::from(row[width - 1]));
        for (wide, pixel) in padded[REACH..].iter_mut().zip(row) {
            *wide = u16::from(*pixel);
        }
        for (offset, weight) in WEIGHTS.iter().enumerate() {
            for (sum, value) in out.iter_mut().zip(&padded[offset..]) {
                *sum += weight * value;
            }
        }
        // 25 * 255 becomes 8 * 255, so that the sums across lines fit 16 bits as well.
        for sum in out {
            *sum = ((u32::from(*sum) * 20_972) >> 16) as u16;
        }
    }
    let mut out = picture.clone();
    let mut sums = vec![0_u16; width];
    for (y, target) in out.chunks_exact_mut(width).enumerate() {
        sums.fill(0);
        for (offset, weight) in WEIGHTS.iter().enumerate() {
            let from = (y + offset).saturating_sub(REACH).min(height - 1);
            for (sum, value) in sums.iter_mut().zip(&lines[from * width..(from + 1) * width]) {
                *sum += weight * value;
            }
        }
        for (pixel, sum) in target.iter_mut().zip(&sums) {
            *pixel = (((u32::from(*sum) + 100) * 328) >> 16).min(255) as u8;
        }
    }
    out
}

/// Divides by the mean of `2 * reach + 1` pixels to each side, so that light and shadow are one: repairs glare.
#[must_use]
pub fn evened(picture: &GrayImage, reach_x: usize, reach_y: usize) -> GrayImage {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    if width == 0 || height == 0 {
        return picture.clone();
    }
    let pixels = picture.as_raw();
    let line = |y: usize| &pixels[y * width..(y + 1) * width];
    let mut even = picture.clone();
    // Sums of columns over the lines in reach; then a running sum along the line.
    let mut columns = vec![0_u32; width];
    for y in 0..reach_y.min(height) {
        columns.iter_mut().zip(line(y)).for_each(|(sum, pixel)| *sum += u32::from(*pixel));
    }
    let mut sums = vec![0_u32; width + 1];
    for (y, target) in even.chunks_exact_mut(width).enumerate() {
        if y + reach_y < height {
            columns.iter_mut().zip(line(y + reach_y)).for_each(|(sum, pixel)| *sum += u32::from(*pixel));
        }
        if let Some(gone) = y.checked_sub(reach_y + 1) {
            columns.iter_mut().zip(line(gone)).for_each(|(sum, pixel)| *sum -= u32::from(*pixel));
        }
        let lines = (y + reach_y + 1).min(height) - y.saturating_sub(reach_y);
        let mut total = 0_u32;
        for (sum, column) in sums[1..].iter_mut().zip(&columns) {
            total = total.wrapping_add(*column);
            *sum = total;
        }
        let scale = |count: usize| 128.0 * (lines * count) as f32;
        let full = 2 * reach_x + 1;
        if width > full {
            let (from, to) = (reach_x, width - reach_x);
            let inner = scale(full);
            let ahead = &sums[full..];
            for ((pixel, ahead), behind) in target[from..to].iter_mut().zip(ahead).zip(&sums) {
                let sum = ahead.wrapping_sub(*behind).max(1);
                *pixel = (f32::from(*pixel) * inner / sum as f32).min(255.0) as u8;
            }
        }
        let edges =
            (0..reach_x.min(width)).chain((width - reach_x.min(width)).max(reach_x.min(width))..width);
        let edges = if width > full { edges } else { (0..width).chain(0..0) };
        for x in edges {
            let (left, right) = (x.saturating_sub(reach_x), (x + reach_x + 1).min(width));
            let sum = sums[right].wrapping_sub(sums[left]).max(1);
            let value = f32::from(line(y)[x]) * scale(right - left) / sum as f32;
            target[x] = value.min(255.0) as u8;
        }
    }
    even
}

/// Twice as large, cubic between pixels (Catmull and Rom): repairs small codes.
#[must_use]
pub fn doubled(picture: &GrayImage) -> GrayImage {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    if width == 0 || height == 0 {
        return picture.clone();
    }
    // A new pixel lies a quarter beside an old one: weights of the four around it, in 1/256.
    const TAPS: [i16; 4] = [-6, 58, 222, -18];
    let mut lines = vec![0_i16; 2 * width * height];
    let mut padded = vec![0_i16; width + 4];
    for (row, out) in picture.as_raw().chunks_exact(width).zip(lines.chunks_exact_mut(2 * width)) {
        padded[..2].fill(i16::from(row[0]));
        padded[2 + width..].fill(i16::from(row[width - 1]));
        for (wide, pixel) in padded[2..].iter_mut().zip(row) {
            *wide = i16::from(*pixel);
        }
        for (pair, around) in out.chunks_exact_mut(2).zip(padded.windows(5)) {
            let near = |taps: [i16; 4], from: usize| -> i16 {
                let sum: i32 = (0..4).map(|i| i32::from(taps[i]) * i32::from(around[from + i])).sum();
                (sum >> 5) as i16
            };
            pair[0] = near(TAPS, 0);
            pair[1] = near([TAPS[3], TAPS[2], TAPS[1], TAPS[0]], 1);
        }
    }
    let stride = 2 * width;
    let line = |y: isize| {
        let y = y.clamp(0, height as isize - 1) as usize;
        &lines[y * stride..(y + 1) * stride]
    };
    let mut out = vec![0_u8; stride * 2 * height];
    for (index, target) in out.chunks_exact_mut(stride).enumerate() {
        let y = (index / 2) as isize;
        // An upper new line leans on the line above, a lower one on the line below.
        let (taps, first) =
            if index % 2 == 0 { (TAPS, y - 2) } else { ([TAPS[3], TAPS[2], TAPS[1], TAPS[0]], y - 1) };
        let [a, b, c, d] = [line(first), line(first + 1), line(first + 2), line(first + 3)];
        for ((((pixel, a), b), c), d) in target.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            let sum = i32::from(taps[0]) * i32::from(*a)
                + i32::from(taps[1]) * i32::from(*b)
                + i32::from(taps[2]) * i32::from(*c)
                + i32::from(taps[3]) * i32::from(*d);
            *pixel = ((sum + 1024) >> 11).clamp(0, 255) as u8;
        }
    }
    GrayImage::from_raw(stride as u32, 2 * height as u32, out).expect("one value for each pixel")
}

/// Half as large, means of four pixels: repairs what is finer than a module. An odd last line or column is lost.
#[must_use]
pub fn halved(picture: &GrayImage) -> GrayImage {
    let (width, height) = (picture.width() as usize / 2, picture.height() as usize / 2);
    let stride = picture.width() as usize;
    let mut out = vec![0_u8; width * height];
    if !out.is_empty() {
        for (pair, target) in picture.as_raw().chunks_exact(2 * stride).zip(out.chunks_exact_mut(width)) {
            let (upper, lower) = pair.split_at(stride);
            for ((pixel, up), low) in target.iter_mut().zip(upper.chunks_exact(2)).zip(lower.chunks_exact(2))
            {
                let sum = u16::from(up[0]) + u16::from(up[1]) + u16::from(low[0]) + u16::from(low[1]);
                *pixel = ((sum + 2) / 4) as u8;
            }
        }
    }
    GrayImage::from_raw(width as u32, height as u32, out).expect("one value for each pixel")
}

/// With `border` pixels around it, each like its nearest: a decoder can look past the edge of the frame, where a
/// corner of the code hangs out.
#[must_use]
pub fn padded(picture: &GrayImage, border: usize) -> GrayImage {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    if width == 0 || height == 0 {
        return picture.clone();
    }
    let stride = width + 2 * border;
    let mut out = Vec::with_capacity(stride * (height + 2 * border));
    for y in 0..height + 2 * border {
        let from = y.saturating_sub(border).min(height - 1);
        let row = &picture.as_raw()[from * width..(from + 1) * width];
        out.extend(std::iter::repeat_n(row[0], border));
        out.extend_from_slice(row);
        out.extend(std::iter::repeat_n(row[width - 1], border));
    }
    GrayImage::from_raw(stride as u32, (height + 2 * border) as u32, out).expect("one value for each pixel")
}

/// The lightest of 3 x 3 pixels, then the darkest: thin dark lines disappear.
#[must_use]
pub fn closed(picture: &GrayImage) -> GrayImage {
    ranked(&ranked(picture, u8::max), u8::min)
}

/// The darkest of 3 x 3 pixels, then the lightest: thin light lines disappear.
#[must_use]
pub fn opened(picture: &GrayImage) -> GrayImage {
    ranked(&ranked(picture, u8::min), u8::max)
}

fn ranked(picture: &GrayImage, pick: fn(u8, u8) -> u8) -> GrayImage {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let mut out = picture.clone();
    if width < 3 || height < 3 {
        return out;
    }
    let pixels = picture.as_raw();
    let mut lines = pixels.clone();
    for (row, target) in pixels.chunks_exact(width).zip(lines.chunks_exact_mut(width)) {
        for (pixel, three) in target[1..].iter_mut().zip(row.windows(3)) {
            *pixel = pick(pick(three[0], three[1]), three[2]);
        }
    }
    for (y, target) in out.chunks_exact_mut(width).enumerate() {
        let (above, below) = (y.saturating_sub(1), (y + 1).min(height - 1));
        let line = |y: usize| &lines[y * width..(y + 1) * width];
        for (((pixel, one), two), three) in target.iter_mut().zip(line(above)).zip(line(y)).zip(line(below)) {
            *pixel = pick(pick(*one, *two), *three);
        }
    }
    out
}
