//! `[boot_hooks]`: which commands may run on this host before a sandbox is created, and how much each may take.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{Key, Kind, Section};
use crate::safe_paths;

/// Which commands may run before a sandbox is created.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootHooks {
    /// The folder whose executables may be run before a sandbox is created. It and they belong to root or the user that
    /// the server runs as, and nobody else can write them. Default: none, so that nobody runs anything on this host.
    #[serde(default)]
    pub pre_create_folder: Option<PathBuf>,
    /// The `shoreguard` binary that limits itself before it becomes the hook. Default: none, which is the running one.
    #[serde(default)]
    pub launcher: Option<PathBuf>,
    /// Most hooks that run on this host at one time; others wait. Default 4: they are checks, and the server's own work
    /// comes first.
    #[serde(default = "running_max")]
    pub running_max: u32,
    /// Most output of one hook, in KiB; one that writes more is ended. Default 1024: 4096 characters are kept of it.
    #[serde(default = "output_kib_max")]
    pub output_kib_max: u32,
    /// Most processor time of one hook, in seconds. Default 60: a check waits for others rather than compute.
    #[serde(default = "cpu_seconds_max")]
    pub cpu_seconds_max: u32,
    /// Most address space of each process of a hook, in MiB. Default 4096: interpreters reserve more than they use.
    #[serde(default = "memory_mib_max")]
    pub memory_mib_max: u32,
    /// Most files that each process of a hook has open. Default 256, far above what a script needs.
    #[serde(default = "open_files_max")]
    pub open_files_max: u32,
    /// Most processes and threads of the server's user while a hook starts another, the server's own among them; the
    /// system does not limit root. Default 1024: no fork bomb, and room for the server's threads.
    #[serde(default = "processes_max")]
    pub processes_max: u32,
    /// Largest file that a hook writes, in MiB. Default 64: a report fits, the disk stays free.
    #[serde(default = "file_mib_max")]
    pub file_mib_max: u32,
}

fn running_max() -> u32 {
    4
}

fn output_kib_max() -> u32 {
    1024
}

fn cpu_seconds_max() -> u32 {
    60
}

fn memory_mib_max() -> u32 {
    4096
}

fn open_files_max() -> u32 {
    256
}

fn processes_max() -> u32 {
    1024
}

fn file_mib_max() -> u32 {
    64
}

impl Section for BootHooks {
    const KEYS: &'static [Key] = &[
        Key::new("pre_create_folder", Kind::Text),
        Key::new("launcher", Kind::Text),
        Key::new("running_max", Kind::Number),
        Key::new("output_kib_max", Kind::Number),
        Key::new("cpu_seconds_max", Kind::Number),
        Key::new("memory_mib_max", Kind::Number),
        Key::new("open_files_max", Kind::Number),
        Key::new("processes_max", Kind::Number),
        Key::new("file_mib_max", Kind::Number),
    ];

    fn check(&self, faults: &mut Faults) {
        if let Some(Err(why)) = self.pre_create_folder.as_deref().map(safe_paths::folder) {
            faults.add("boot_hooks.pre_create_folder", why);
        }
        if self.launcher.as_ref().is_some_and(|path| !path.is_absolute() || !path.is_file()) {
            faults.add("boot_hooks.launcher", "must be the absolute path of a file");
        }
        faults.range("boot_hooks.running_max", self.running_max, &(1..=64));
        faults.range("boot_hooks.output_kib_max", self.output_kib_max, &(16..=65_536));
        faults.range("boot_hooks.cpu_seconds_max", self.cpu_seconds_max, &(1..=600));
        faults.range("boot_hooks.memory_mib_max", self.memory_mib_max, &(64..=1_048_576));
        faults.range("boot_hooks.open_files_max", self.open_files_max, &(16..=65_536));
        faults.range("boot_hooks.processes_max", self.processes_max, &(1..=65_536));
        faults.range("boot_hooks.file_mib_max", self.file_mib_max, &(1..=65_536));
    }
}
