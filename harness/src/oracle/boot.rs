//! The guest: where its kernel comes from, and how it is started and ended (spec ORA-1, ORA-2).

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::guest::MODULE_FOLDER;

/// The package that holds the guest's kernel and its modules.
const PACKAGE: &str = "user-mode-linux";
/// Memory of a guest.
const MEMORY: &str = "512M";
/// The tools that program a node, run inside the guest from the host's files.
const TOOLS: [&str; 7] =
    ["ip", "tc", "ipset", "iptables-legacy-restore", "ipvsadm", "modprobe", "depmod"];
/// Runs a guest, and ends it with all its processes once nobody holds the other end of the shell's input
/// any more, however that comes. Soon after the start they are a group of their own, before it the shell's.
const KEEPER: &str = r#"
exec 3<&0
"$0" "$@" </dev/null 3<&- & guest=$!
(read -r _; kill -KILL -$guest; kill -KILL 0) <&3 &
wait $guest
kill -KILL 0"#;
/// Where administrators' programs are, whatever the caller's PATH says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A kernel that can be booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestKernel {
    image: PathBuf,
    /// Holds `lib/modules/VERSION`, with the indexes that modprobe wants.
    modules: PathBuf,
}

impl GuestKernel {
    /// Finds the kernel in the cache folder, or downloads it there by apt.
    ///
    /// # Errors
    /// Why there is none: a tool that is not installed, no such package for this system.
    pub fn get() -> anyhow::Result<Self> {
        for tool in TOOLS {
            if !PATH.split(':').any(|folder| Path::new(folder).join(tool).exists()) {
                bail!("{tool} is not installed");
            }
        }
        let folder = cache_folder()?;
        let found = Self { image: folder.join("linux.uml"), modules: folder.join("modules") };
        if !found.image.exists() {
            fs::create_dir_all(&folder)?;
            // Two at the same time would unpack into each other's folder.
            let lock = File::create(folder.join("lock"))?;
            lock.lock()?;
            if !found.image.exists() {
                found.download(&folder)?;
            }
        }
        Ok(found)
    }

    /// The image comes last: where it is, everything is.
    fn download(&self, folder: &Path) -> anyhow::Result<()> {
        let work = folder.join("download");
        let _ = fs::remove_dir_all(&work);
        fs::create_dir(&work)?;
        run(Command::new("apt-get").args(["download", "-qq", PACKAGE]).current_dir(&work))?;
        let package = fs::read_dir(&work)?.next().context("apt-get downloaded nothing")??.path();
        run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&work))?;
        let _ = fs::remove_dir_all(&self.modules);
        fs::create_dir_all(self.modules.join("lib"))?;
        fs::rename(work.join("usr/lib/uml/modules"), self.modules.join("lib/modules"))?;
        let version = fs::read_dir(self.modules.join("lib/modules"))?
            .next()
            .context("the package has no modules")??
            .file_name();
        run(Command::new("depmod").arg("-b").arg(&self.modules).arg(version).env("PATH", PATH))?;
        fs::rename(work.join("usr/bin/linux.uml"), &self.image)?;
        fs::remove_dir_all(&work)?;
        Ok(())
    }

    /// Starts a guest whose process 1 is `trunkline guest FOLDER`. It sees this machine's files,
    /// read only but for that folder, in which its console is kept too. It ends with this process.
    ///
    /// # Errors
    /// Where the process cannot be started.
    pub fn boot(&self, folder: &Path) -> anyhow::Result<Guest> {
        let folder = folder.canonicalize()?;
        let console = File::create(folder.join("console"))?;
        let program = std::env::current_exe()?;
        let mut command = Command::new("sh");
        command
            .args(["-c", KEEPER])
            .arg(&self.image)
            .arg(format!("mem={MEMORY}"))
            .args(["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"])
            .args(["con=null", "con0=fd:0,fd:1"])
            .arg(format!("uml_dir={}", folder.display()))
            .arg(format!("init={}", program.display()))
            .arg(format!("PATH={PATH}"))
            .arg(format!("{MODULE_FOLDER}={}", self.modules.display()))
            .arg("--")
            .arg("guest")
            .arg(&folder);
        let process = command
            .stdin(Stdio::piped())
            .stdout(console.try_clone()?)
            .stderr(console)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", self.image.display()))?;
        Ok(Guest { process, folder, started: Instant::now() })
    }
}

fn cache_folder() -> anyhow::Result<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = match (from("XDG_CACHE_HOME"), from("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => PathBuf::from(home).join(".cache"),
        (None, None) => bail!("neither XDG_CACHE_HOME nor HOME is set"),
    };
    Ok(base.join("trunkline").join(PACKAGE))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// A guest that runs. Dropped, it is ended.
#[derive(Debug)]
pub struct Guest {
    process: Child,
    folder: PathBuf,
    started: Instant,
}

impl Guest {
    /// Waits until the guest has turned itself off, at most until `bound` after its start.
    ///
    /// # Errors
    /// Where it did not end in time, or ended without having done its work; with what its
    /// console says.
    pub fn wait(mut self, bound: Duration) -> anyhow::Result<()> {
        while self.process.try_wait()?.is_none() {
            if self.started.elapsed() > bound {
                bail!("the guest took more than {} s{}", bound.as_secs(), self.console());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        match fs::read_to_string(self.folder.join("status")) {
            Ok(status) if status == "0" => Ok(()),
            _ => bail!("the guest failed{}", self.console()),
        }
    }

    fn console(&self) -> String {
        let text = fs::read(self.folder.join("console")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
        format!("; the end of its console:\n{}", last.join("\n"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // This closes the keeper's input.
        let _ = self.process.wait();
    }
}
