//! File systems, kernels and hash trees as a build makes them, as small as they can be.

use std::io::{Cursor, Write};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions, format_volume};
use sha2::{Digest, Sha256};

pub fn fat(mib: usize, files: &[(&str, &str)]) -> Vec<u8> {
    let mut disk = Cursor::new(vec![0; mib << 20]);
    format_volume(&mut disk, FormatVolumeOptions::new()).unwrap();
    let system = FileSystem::new(&mut disk, FsOptions::new()).unwrap();
    for (path, text) in files {
        let mut folder = system.root_dir();
        let mut parts: Vec<_> = path.split('/').collect();
        let name = parts.pop().unwrap();
        for part in parts {
            folder = folder.create_dir(part).unwrap();
        }
        folder.create_file(name).unwrap().write_all(text.as_bytes()).unwrap();
    }
    drop(system);
    disk.into_inner()
}

/// An executable with two sections, as far as a loader of sections looks.
pub fn kernel(release: &str, command_line: &str) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3C] = 0x40;
    bytes[0x40..0x44].copy_from_slice(b"PE\0\0");
    bytes[0x46] = 2;
    let sections = [(&b".osrel\0\0"[..], release, 2048u32), (&b".cmdline"[..], command_line, 4096)];
    for (index, (name, text, at)) in sections.into_iter().enumerate() {
        let header = 0x40 + 24 + index * 40;
        bytes[header..header + 8].copy_from_slice(name);
        for (field, value) in [(8, text.len() as u32), (16, 1024), (20, at)] {
            bytes[header + field..header + field + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes[at as usize..at as usize + text.len()].copy_from_slice(text.as_bytes());
    }
    bytes
}

/// The hash tree of one level over `data`, without salt, and the root hash.
pub fn tree(data: &[u8]) -> (Vec<u8>, String) {
    let mut level: Vec<u8> = data.chunks(4096).flat_map(Sha256::digest).collect();
    level.resize(4096, 0);
    let mut head = vec![0; 4096];
    head[..8].copy_from_slice(b"verity\0\0");
    (head[8], head[12]) = (1, 1);
    head[32..38].copy_from_slice(b"sha256");
    head[64..68].copy_from_slice(&4096u32.to_le_bytes());
    head[68..72].copy_from_slice(&4096u32.to_le_bytes());
    head[72..80].copy_from_slice(&((data.len() / 4096) as u64).to_le_bytes());
    let root = Sha256::digest(&level).iter().map(|byte| format!("{byte:02x}")).collect();
    ([head, level].concat(), root)
}
