//! Compiles the screens.

fn main() {
    if let Err(error) = slint_build::compile("ui/app.slint") {
        println!("cargo::error={error}");
        std::process::exit(1);
    }
}
