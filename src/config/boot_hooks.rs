//! `[boot_hooks]`: commands that can run on this host before a sandbox is created, and their resource limits.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};
use crate::safe_paths;

/// Commands that can run before a sandbox is created, and their resource limits.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootHooks {
    /// Absolute path of the directory whose executables can run before a sandbox is created. The directory and the
    /// executables must belong to root or to the user of the server, and no other user may be able to write to them.
    /// Default: none, which disables hooks on this host.
    #[serde(default)]
    pub pre_create_folder: Option<PathBuf>,
    /// Absolute path of the `shoreguard` binary that applies the limits and then becomes the hook. Default: the running
    /// binary.
    #[serde(default)]
    pub launcher: Option<PathBuf>,
    /// Maximum number of hooks that run on this host at one time; further ones wait. Range 1 to 64. Default 4: hooks
    /// are checks, and the server's own work has priority.
    #[serde(default = "running_max")]
    pub running_max: u32,
    /// Maximum output of one hook, in KiB; a hook that writes more is killed. Range 16 to 65,536. Default 1024; 4096
    /// characters of the output are stored.
    #[serde(default = "output_kib_max")]
    pub output_kib_max: u32,
    /// Maximum CPU time of one hook, in seconds. Range 1 to 600. Default 60: a check waits for other systems rather
    /// than computes.
    #[serde(default = "cpu_seconds_max")]
    pub cpu_seconds_max: u32,
    /// Maximum address space of each process of a hook, in MiB. Range 64 to 1,048,576. Default 4096: interpreters
    /// reserve more than they use.
    #[serde(default = "memory_mib_max")]
    pub memory_mib_max: u32,
    /// Maximum number of open files of each process of a hook. Range 16 to 65,536. Default 256: far above what a script
    /// needs.
    #[serde(default = "open_files_max")]
    pub open_files_max: u32,
    /// Maximum number of processes and threads of the server's user, including those of the server, above which a hook
    /// cannot start another one. The system does not limit root. Range 1 to 65,536. Default 1024: stops a fork bomb and
    /// leaves room for the server's threads.
    #[serde(default = "processes_max")]
    pub processes_max: u32,
    /// Maximum size of a file that a hook writes, in MiB. Range 1 to 65,536. Default 64: a report fits, and the disk
    /// stays free.
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
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("pre_create_folder", ValueKind::Text),
        ConfigKey::new("launcher", ValueKind::Text),
        ConfigKey::new("running_max", ValueKind::Number),
        ConfigKey::new("output_kib_max", ValueKind::Number),
        ConfigKey::new("cpu_seconds_max", ValueKind::Number),
        ConfigKey::new("memory_mib_max", ValueKind::Number),
        ConfigKey::new("open_files_max", ValueKind::Number),
        ConfigKey::new("processes_max", ValueKind::Number),
        ConfigKey::new("file_mib_max", ValueKind::Number),
    ];

    fn check(&self, faults: &mut Faults) {
        if let Some(Err(why)) = self.pre_create_folder.as_deref().map(safe_paths::check_folder) {
            faults.add("boot_hooks.pre_create_folder", why);
        }
        if self.launcher.as_ref().is_some_and(|path| !path.is_absolute() || !path.is_file()) {
            faults.add("boot_hooks.launcher", "must be the absolute path of a file");
        }
        faults.check_range("boot_hooks.running_max", self.running_max, &(1..=64));
        faults.check_range("boot_hooks.output_kib_max", self.output_kib_max, &(16..=65_536));
        faults.check_range("boot_hooks.cpu_seconds_max", self.cpu_seconds_max, &(1..=600));
        faults.check_range("boot_hooks.memory_mib_max", self.memory_mib_max, &(64..=1_048_576));
        faults.check_range("boot_hooks.open_files_max", self.open_files_max, &(16..=65_536));
        faults.check_range("boot_hooks.processes_max", self.processes_max, &(1..=65_536));
        faults.check_range("boot_hooks.file_mib_max", self.file_mib_max, &(1..=65_536));
    }
}
