//! Commands on images.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use osimage::bmap::Bmap;
use osimage::device::{self, Disk};
use osimage::disk::AsImage;
use osimage::key::SecretKey;
use osimage::layout::Layout;
use osimage::plan::{Plan, plan};
use osimage::source::Source;
use osimage::{assemble, boot, inspect, release};

use super::{EXIT_IMAGE, Image, Inputs, beside, complain, open, print, write_whole};

pub fn print_plan(inputs: &Inputs) -> Result<()> {
    print(&planned(inputs)?.0.to_string())
}

fn planned(inputs: &Inputs) -> Result<(Plan, BTreeMap<String, File>)> {
    let layout = Layout::load(&inputs.layout)?;
    let (mut sizes, mut files) = (BTreeMap::new(), BTreeMap::new());
    for (partition, path) in &inputs.content {
        let file = open(path)?;
        let length = file.metadata().with_context(|| format!("measure {}", path.display()))?.len();
        sizes.insert(partition.clone(), length);
        if files.insert(partition.clone(), file).is_some() {
            bail!("partition {partition:?} is given content twice");
        }
    }
    Ok((plan(&layout, &sizes).context("plan image")?, files))
}

/// A line a disk, or one line of JSON a disk.
pub fn disks(json: bool) -> Result<()> {
    for disk in device::disks().context("list the disks")? {
        let Disk { path, size, identity, removable, refusal } = &disk;
        let line = if json {
            serde_json::to_string(&disk).context("write JSON")?
        } else {
            let model = identity.model.as_deref().unwrap_or("-");
            let kind = if *removable { "removable" } else { "built in" };
            let size = format!("{:.1} GB", *size as f64 / 1e9);
            let refusal =
                refusal.as_deref().map_or_else(String::new, |why| format!("  cannot be flashed: {why}"));
            format!("{path:<16} {size:>10}  {kind}  {model}{refusal}")
        };
        print(&format!("{line}\n"))?;
    }
    Ok(())
}

pub fn assemble(inputs: &Inputs, output: &Path) -> Result<()> {
    let (plan, mut files) = planned(inputs)?;
    print(&plan.to_string())?;
    let part = beside(output, ".part");
    let written = write_image(&plan, &mut files, &part, output);
    if written.is_err() {
        // The error is what counts; a left-over has a name that says what it is.
        let _ = fs::remove_file(&part);
    }
    written
}

/// The image gets its name last: under it is a whole image with its block map, or none.
fn write_image(plan: &Plan, files: &mut BTreeMap<String, File>, part: &Path, output: &Path) -> Result<()> {
    let at = || format!("write {}", part.display());
    let mut image =
        File::options().read(true).write(true).create(true).truncate(true).open(part).with_context(at)?;
    assemble::apply(plan, files, &mut image)?;
    image.set_len(plan.size).with_context(at)?;
    let bmap = Bmap::of_plan(plan, &mut image)?;
    image.sync_all().with_context(at)?;
    write_whole(&beside(output, ".bmap"), bmap.to_xml().as_bytes())?;
    fs::rename(part, output).with_context(|| format!("write {}", output.display()))?;
    print(&format!("{}: {} bytes, {} mapped\n", output.display(), plan.size, bmap.mapped()))
}

pub fn inspect(path: &Path, json: bool) -> Result<ExitCode> {
    let inspection =
        inspect::inspect(&mut open(path)?).with_context(|| format!("inspect {}", path.display()))?;
    if json {
        print(&format!("{}\n", serde_json::to_string(&inspection)?))?;
    } else {
        print(&inspection.to_string())?;
    }
    let tables = [&inspection.primary_damage, &inspection.backup_damage];
    let damages = tables.into_iter().chain(inspection.roots.iter().map(|root| &root.damage));
    let damaged = damages.flatten().next().is_some();
    Ok(if damaged { ExitCode::from(EXIT_IMAGE) } else { ExitCode::SUCCESS })
}

pub fn slots(path: &Path, json: bool) -> Result<()> {
    let boot = boot::read(&mut open(path)?);
    if json { print(&format!("{}\n", serde_json::to_string(&boot)?)) } else { print(&boot.to_string()) }
}

pub fn sign(path: &Path, key: &Path, bmap: Option<std::path::PathBuf>) -> Result<()> {
    let key = SecretKey::read(key)?;
    let image = Image::load(path, bmap)?;
    // What is signed is checked: a signature of a damaged image would be a promise that nobody can keep.
    let mut source = Source::open(path).with_context(|| format!("open {}", path.display()))?;
    image.bmap.verify_source(&mut source).with_context(|| format!("verify {}", path.display()))?;
    let file = &image.signature;
    write_whole(file, release::sign(&image.identity, &key).as_bytes())?;
    print(&format!("{}: signed by key {}\n", file.display(), key.public().id()))
}

pub fn verify(path: &Path, bmap: Option<std::path::PathBuf>, key: Option<&Path>) -> Result<ExitCode> {
    match check(path, bmap, key) {
        Ok(found) => print(&found)?,
        Err(error) => {
            complain(&format!("{error:#}"));
            return Ok(ExitCode::from(EXIT_IMAGE));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check(path: &Path, bmap: Option<std::path::PathBuf>, key: Option<&Path>) -> Result<String> {
    let image = Image::load(path, bmap)?;
    let signer = key.map(|key| image.check_signature(key)).transpose()?;
    let verify = || format!("verify {}", path.display());
    if open(path)?.metadata().with_context(verify)?.file_type().is_block_device() {
        let mut disk = AsImage::new(open(path)?, image.bmap.image_size).with_context(verify)?;
        image.bmap.verify(&mut disk).with_context(verify)?;
    } else {
        let mut source = Source::open(path).with_context(|| format!("open {}", path.display()))?;
        image.bmap.verify_source(&mut source).with_context(verify)?;
    }
    let signed = signer.map_or_else(
        || "signature not checked, no --key given".to_owned(),
        |key| format!("signed by key {key}"),
    );
    Ok(format!("{}: {} mapped bytes match; {signed}\n", path.display(), image.bmap.mapped()))
}
