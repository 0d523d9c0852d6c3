//! Writes the seeds of every target into FOLDER/TARGET/NAME.

fn main() -> std::io::Result<()> {
    let folder = std::path::PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "seeds".to_owned()));
    for (target, name, bytes) in fuzz::seeds() {
        std::fs::create_dir_all(folder.join(target))?;
        std::fs::write(folder.join(target).join(name), bytes)?;
    }
    Ok(())
}
