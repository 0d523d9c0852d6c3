//! How a worker gives up its rights, before it reads a byte of anybody's: no capability and no way to a new one,
//! no file, no network, no process, bounded memory, and a short list of system calls.
//!
//! What the kernel lacks is told and not hidden; whether that is good enough is the program's policy.

use std::collections::BTreeMap;
use std::fs;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope};
use rustix::process::{
    DumpableBehavior, Gid, Pid, Resource, Rlimit, Signal, Uid, getuid, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::sys;

/// The user and the group that own nothing.
const NOBODY: u32 = 65_534;
/// The out-of-memory killer takes a worker before anything else of the box.
const OOM_SCORE: &str = "900";

/// Which walls stand: one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers(u8);

impl Layers {
    /// None.
    pub const NONE: Self = Self(0);
    /// No capabilities, and no program that would give some.
    pub const PRIVILEGES: Self = Self(1);
    /// Bounds on memory, time, files and processes.
    pub const LIMITS: Self = Self(2);
    /// No path of the file system, no TCP port, no other process.
    pub const LANDLOCK: Self = Self(4);
    /// Only the system calls of reading and answering.
    pub const SECCOMP: Self = Self(8);
    /// All.
    pub const ALL: Self = Self(15);

    /// From the bits of a greeting; bits without a meaning are dropped.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether these include all of `others`.
    #[must_use]
    pub const fn contain(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What the sandbox allows, and which layers are wanted: all of them but in a check of one.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Address space, bytes.
    pub memory_bytes: u64,
    /// CPU time of the whole life, seconds.
    pub cpu_seconds: u64,
    /// Layers to put up.
    pub layers: Layers,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Entered {
    /// Layers that stand.
    pub layers: Layers,
    /// Why the others do not.
    pub detail: String,
}

/// Why a layer does not stand.
#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error("{0}: {1}")]
    Call(&'static str, rustix::io::Errno),
    #[error("landlock: {0}")]
    Landlock(#[from] RulesetError),
    #[error("landlock: this kernel has none, or it is switched off")]
    NoLandlock,
    #[error("seccomp: {0}")]
    Rules(#[from] BackendError),
    #[error("seccomp: {0}")]
    Filter(#[from] seccompiler::Error),
}

/// Puts up one layer.
type Wall = fn(Bounds) -> Result<(), Missing>;

/// Dies with the parent from now on, and knows whether that is already due: `parent` is who started us.
///
/// The kernel ties this to the thread that started the process.
#[must_use]
pub fn die_with(parent: Pid) -> bool {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    rustix::process::getppid() == Some(parent)
}

/// Gives up everything for good. Descriptors 0 and 1 stay open.
pub fn enter(bounds: Bounds) -> Entered {
    // Everything here is opened to close on exec; this is for what some library forgot.
    let _ = sys::close_range::close_from(3);
    // A gate runs in real time, and a decoder that did would stand in its way.
    let _ = sys::sched_setscheduler::become_ordinary();
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let mut entered = Entered { layers: Layers::NONE, detail: String::new() };
    // Landlock needs a descriptor, so it comes before the limits; the filter forbids all the others.
    let walls: [(Layers, Wall); 4] = [
        (Layers::PRIVILEGES, drop_privileges),
        (Layers::LANDLOCK, restrict_paths),
        (Layers::LIMITS, limit),
        (Layers::SECCOMP, filter),
    ];
    for (layer, wall) in walls.into_iter().filter(|(layer, _)| bounds.layers.contain(*layer)) {
        match wall(bounds) {
            Ok(()) => entered.layers = entered.layers.with(layer),
            Err(missing) => {
                if !entered.detail.is_empty() {
                    entered.detail.push_str("; ");
                }
                entered.detail.push_str(&missing.to_string());
            }
        }
    }
    entered
}

fn drop_privileges(_: Bounds) -> Result<(), Missing> {
    let fail = |call| move |errno| Missing::Call(call, errno);
    set_no_new_privs(true).map_err(fail("no_new_privs"))?;
    if getuid().is_root() {
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        set_thread_groups(&[]).map_err(fail("setgroups"))?;
        set_thread_res_gid(group, group, group).map_err(fail("setresgid"))?;
        for capability in CapabilitySet::all() {
            let _ = remove_capability_from_bounding_set(capability);
        }
        set_thread_res_uid(user, user, user).map_err(fail("setresuid"))?;
    }
    let _ = clear_ambient_capability_set();
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    // A unit that forbids the call has mostly taken the capabilities away already.
    if !capabilities(None).is_ok_and(|held| held == sets) {
        set_capabilities(None, sets).map_err(fail("capset"))?;
    }
    // A change of user forgets whose death we follow.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(fail("PDEATHSIG"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(fail("dumpable"))
}

fn restrict_paths(_: Bounds) -> Result<(), Missing> {
    // ABI 6 (Linux 6.12) has all that matters here; an older kernel enforces what it knows.
    const NEWEST: ABI = ABI::V6;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()?;
    match status.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err(Missing::NoLandlock),
    }
}

fn limit(bounds: Bounds) -> Result<(), Missing> {
    let limits = [
        (Resource::As, bounds.memory_bytes, "RLIMIT_AS"),
        (Resource::Cpu, bounds.cpu_seconds, "RLIMIT_CPU"),
        (Resource::Fsize, 0, "RLIMIT_FSIZE"),
        (Resource::Nproc, 0, "RLIMIT_NPROC"),
        (Resource::Core, 0, "RLIMIT_CORE"),
        (Resource::Memlock, 0, "RLIMIT_MEMLOCK"),
        (Resource::Nofile, 0, "RLIMIT_NOFILE"),
    ];
    for (resource, value, name) in limits {
        let value = Some(value);
        setrlimit(resource, Rlimit { current: value, maximum: value })
            .map_err(|errno| Missing::Call(name, errno))?;
    }
    Ok(())
}

/// Reading the socket and the picture, answering, memory, and ending. Anything else ends the worker.
fn filter(_: Bounds) -> Result<(), Missing> {
    const SOCKET: u64 = 0;
    const PICTURE: u64 = 1;
    let word = |index, compare, value| SeccompCondition::new(index, SeccompCmpArgLen::Dword, compare, value);
    let on = |descriptor| -> Result<Vec<SeccompRule>, BackendError> {
        Ok(vec![SeccompRule::new(vec![word(0, SeccompCmpOp::Eq, descriptor)?])?])
    };
    // New memory belongs to no file, and nothing becomes code.
    let anonymous = word(3, SeccompCmpOp::MaskedEq(libc::MAP_ANONYMOUS as u64), libc::MAP_ANONYMOUS as u64)?;
    let no_code = |index| word(index, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    rules.insert(libc::SYS_read, on(SOCKET)?);
    rules.insert(libc::SYS_write, on(SOCKET)?);
    rules.insert(libc::SYS_pread64, on(PICTURE)?);
    rules.insert(libc::SYS_mmap, vec![SeccompRule::new(vec![anonymous, no_code(2)?])?]);
    rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(vec![no_code(2)?])?]);
    for call in [
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_clock_gettime,
        libc::SYS_getrandom,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ] {
        rules.insert(call, Vec::new());
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        arch,
    )?;
    let program = BpfProgram::try_from(filter)?;
    Ok(seccompiler::apply_filter(&program)?)
}
