//! Screens as pictures, without a display: Slint's software renderer draws to memory.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use slint::platform::software_renderer::{MinimalSoftwareWindow, RepaintBufferType};
use slint::platform::{Platform, WindowAdapter};
use slint::{ComponentHandle, PhysicalSize, PlatformError, Rgb8Pixel};

use crate::app;
use crate::app::ui::App;
use crate::view::View;

/// Longest side of a picture, pixels; larger is a mistake rather than a screen.
pub const SIDE_MAX: u32 = 8192;

/// Why no picture came.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Slint refused to start.
    #[error("start the software renderer")]
    Start(#[source] PlatformError),
    /// The size is zero or beyond [`SIDE_MAX`].
    #[error("picture of {width} x {height} pixels, each side must be 1 to {SIDE_MAX}")]
    Size {
        /// Asked width.
        width: u32,
        /// Asked height.
        height: u32,
    },
    /// The drawing thread died.
    #[error("drawing thread ended")]
    Ended,
    /// The file could not be written.
    #[error("write picture {0}")]
    Write(std::path::PathBuf, #[source] image::ImageError),
}

/// A drawn screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Red, green, blue; rows from the top.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// Writes it as PNG.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_png(&self, path: &Path) -> Result<(), Error> {
        let kind = image::ExtendedColorType::Rgb8;
        image::save_buffer_with_format(
            path,
            &self.rgb,
            self.width,
            self.height,
            kind,
            image::ImageFormat::Png,
        )
        .map_err(|source| Error::Write(path.to_owned(), source))
    }
}

struct Order {
    view: Box<View>,
    size: (u32, u32),
    answer: Sender<Result<Picture, Error>>,
}

/// Draws screens on a thread of its own, since Slint keeps its state by thread. Dropping it ends the thread.
#[derive(Debug)]
pub struct Painter {
    orders: Sender<Order>,
}

impl Painter {
    /// Starts the drawing thread.
    ///
    /// # Errors
    /// Slint refuses to start.
    pub fn start() -> Result<Self, Error> {
        let (orders, inbox) = channel();
        let (ready, started) = channel();
        std::thread::spawn(move || match Canvas::new() {
            Ok(canvas) => {
                let _ = ready.send(Ok(()));
                canvas.serve(&inbox);
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        });
        started.recv().map_err(|_| Error::Ended)??;
        Ok(Self { orders })
    }

    /// Draws `view` at `size` pixels. Blocks for the time of drawing, some tens of milliseconds.
    ///
    /// # Errors
    /// The size is out of range, or the thread died.
    pub fn paint(&self, view: &View, size: (u32, u32)) -> Result<Picture, Error> {
        let (width, height) = size;
        if width == 0 || height == 0 || width > SIDE_MAX || height > SIDE_MAX {
            return Err(Error::Size { width, height });
        }
        let (answer, picture) = channel();
        let order = Order { view: Box::new(view.clone()), size, answer };
        self.orders.send(order).map_err(|_| Error::Ended)?;
        picture.recv().map_err(|_| Error::Ended)?
    }
}

/// Draws one `view` at `size` pixels. Starting costs some hundred milliseconds: keep a [`Painter`] for more
/// than one.
///
/// # Errors
/// See [`Painter`].
pub fn picture(view: &View, size: (u32, u32)) -> Result<Picture, Error> {
    Painter::start()?.paint(view, size)
}

struct Headless {
    window: Rc<MinimalSoftwareWindow>,
    time: Rc<Cell<Duration>>,
}

impl Platform for Headless {
    fn create_window_adapter(&self) -> Result<Rc<dyn WindowAdapter>, PlatformError> {
        Ok(self.window.clone())
    }

    fn duration_since_start(&self) -> Duration {
        self.time.get()
    }
}

struct Canvas {
    app: App,
    window: Rc<MinimalSoftwareWindow>,
    time: Rc<Cell<Duration>>,
}

impl Canvas {
    fn new() -> Result<Self, Error> {
        let window = MinimalSoftwareWindow::new(RepaintBufferType::NewBuffer);
        let time = Rc::new(Cell::new(Duration::ZERO));
        let platform = Headless { window: window.clone(), time: time.clone() };
        slint::platform::set_platform(Box::new(platform))
            .map_err(|error| Error::Start(PlatformError::Other(error.to_string())))?;
        let app = App::new().map_err(Error::Start)?;
        app.show().map_err(Error::Start)?;
        Ok(Self { app, window, time })
    }

    fn serve(&self, orders: &Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            let picture = self.paint(&order.view, order.size);
            // The asker may have gone; the picture is then of no use.
            let _ = order.answer.send(Ok(picture));
        }
    }

    fn paint(&self, view: &View, (width, height): (u32, u32)) -> Picture {
        self.window.set_size(PhysicalSize::new(width, height));
        app::show(&self.app, view);
        // Sizes follow the window by change callbacks, and animations run out: a picture shows the end of
        // both.
        for _ in 0..3 {
            self.time.set(self.time.get() + Duration::from_secs(2));
            slint::platform::update_timers_and_animations();
        }
        let mut pixels = vec![Rgb8Pixel { r: 0, g: 0, b: 0 }; (width * height) as usize];
        self.window.request_redraw();
        self.window.draw_if_needed(|renderer| {
            renderer.render(&mut pixels, width as usize);
        });
        let rgb = pixels.into_iter().flat_map(|pixel| [pixel.r, pixel.g, pixel.b]).collect();
        Picture { width, height, rgb }
    }
}
