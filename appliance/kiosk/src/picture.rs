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
        app.set_family(crate::fonts::family().into());
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use engine::kiosk::Language;
    use slint::LogicalPosition;
    use slint::platform::{PointerEventButton, WindowEvent};

    use super::*;
    use crate::state::Action;

    const SIZE: (u32, u32) = (540, 960);
    /// Pixels a millimetre at that size: see `ui/theme.slint`.
    const MM: f64 = 540.0 / 194.3;
    /// Pixels between two touches when a control is measured.
    const STEP: i32 = 3;

    struct Finger {
        canvas: Canvas,
        felt: Rc<RefCell<Vec<Action>>>,
    }

    impl Finger {
        fn new() -> Self {
            let canvas = Canvas::new().unwrap();
            let felt = Rc::new(RefCell::new(Vec::new()));
            let feel = felt.clone();
            app::listen(&canvas.app, move |action| feel.borrow_mut().push(action));
            Self { canvas, felt }
        }

        /// The control at a point, in pixels.
        fn tap(&self, x: i32, y: i32) -> Option<String> {
            let position = LogicalPosition::new(x as f32, y as f32);
            let button = PointerEventButton::Left;
            let window = self.canvas.app.window();
            window.dispatch_event(WindowEvent::PointerPressed { position, button });
            window.dispatch_event(WindowEvent::PointerReleased { position, button });
            let action = self.felt.borrow_mut().drain(..).next_back()?;
            (action != Action::Elsewhere).then(|| format!("{action:?}"))
        }

        /// Width and height of the control under a point, in millimetres.
        fn extent(&self, what: &str, x: i32, y: i32) -> (f64, f64) {
            let reach = |dx: i32, dy: i32| {
                (0..320)
                    .map(|count| count * STEP)
                    .take_while(|far| self.tap(x + dx * far, y + dy * far).as_deref() == Some(what))
                    .count() as i32
            };
            let width = reach(1, 0) + reach(-1, 0) - 1;
            let height = reach(0, 1) + reach(0, -1) - 1;
            (f64::from(width * STEP) / MM, f64::from(height * STEP) / MM)
        }
    }

    #[test]
    fn every_control_is_felt_and_large_enough() {
        let finger = Finger::new();
        let table: [(&str, &[&str]); 7] = [
            ("gate-refused-revoked", &["Call", "Language"]),
            ("help-idle", &["Language(Korean)", "Language(English)", "Call", "LowReach(true)"]),
            ("help-home", &["Back", "Search", "Call", "Language(Korean)", "HighContrast(true)"]),
            ("help-search-empty", &["Key('⌫')", "Key(' ')", "Letters", "Digits", "Clear", "Choose", "Back"]),
            ("help-product-low-reach", &["Search", "Back", "Call", "LowReach(false)"]),
            ("help-call-sent", &["Cancel", "HighContrast(true)"]),
            ("help-leaving", &["MoreTime"]),
        ];
        let scenes: Vec<_> = Language::ALL.into_iter().flat_map(crate::showcase::scenes).collect();
        for (name, expected) in table {
            // English has the longer words; the keyboard is the same.
            let tags: &[&str] = if name.contains("search") { &["ko"] } else { &["en"] };
            for tag in tags {
                let name = format!("{name}-{tag}");
                let scene = scenes.iter().find(|scene| scene.name == name).unwrap();
                finger.canvas.paint(&scene.view, SIZE);
                let mut found = BTreeMap::new();
                for y in (4..960).step_by(24) {
                    for x in (4..540).step_by(24) {
                        if let Some(what) = finger.tap(x, y) {
                            found.entry(what).or_insert((x, y));
                        }
                    }
                }
                for part in expected {
                    assert!(
                        found.keys().any(|what| what.starts_with(part)),
                        "{part} is missing on {name}: {found:?}"
                    );
                }
                for (what, (x, y)) in found {
                    let (width, height) = finger.extent(&what, x, y);
                    assert!(
                        width >= 19.9 && height >= 19.9,
                        "{what} on {name} is {width:.1} x {height:.1} mm"
                    );
                }
            }
        }
    }
}
