//! Debian's baresip, without screen, sound or keyboard. It registers the accounts it is given.

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running baresip, which ends when dropped.
pub struct Baresip {
    folder: tempfile::TempDir,
    child: Child,
}

impl Baresip {
    /// Runs baresip with these lines as its accounts.
    pub fn run(accounts: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let modules = Path::new("/usr/lib/baresip/modules");
        let config = format!(
            "sip_listen 127.0.0.1:0\nsip_transports udp\nmodule_path {}\nmodule_app account.so\n",
            modules.display()
        );
        std::fs::write(folder.path().join("config"), config).unwrap();
        std::fs::write(folder.path().join("accounts"), accounts).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new("/usr/bin/baresip")
            .arg("-f")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { folder, child }
    }

    /// Returns everything it has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.path().join("log")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
