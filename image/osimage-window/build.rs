//! Compiles the window.

fn main() {
    // One look everywhere, whatever the desktop has.
    let style = slint_build::CompilerConfiguration::new().with_style("fluent-light".to_owned());
    if let Err(error) = slint_build::compile_with_config("ui/window.slint", style) {
        println!("cargo::error={error}");
        std::process::exit(1);
    }
}
