//! Entry codes read from a camera: a decoder in a worker process that has no rights, the program's own side of
//! that worker, and a camera with a worker as a scanner.
//!
//! It deliberately does not know what an entry code is, nor what a gate does with one: texts come out, and who
//! may pass is decided elsewhere. The decoder is C++ and eats what strangers show it, so a crash, a hang or a
//! senseless answer costs the frame it happened on and nothing else.

pub mod decode;
pub mod prepare;
pub mod program;
pub mod sandbox;
pub mod scanner;
mod serve;
mod sys;
pub mod wire;
pub mod worker;

pub use scanner::CameraScanner;
pub use worker::Worker;
