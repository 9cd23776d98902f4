//! A file that one process at a time holds, as the kernel says: it is free when its holder ends, however that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// The hold on a file, until it is dropped or the process ends.
///
/// Nothing that the process starts inherits it. The file stays: to remove one that another process is about to hold
/// would give it to both.
#[derive(Debug)]
pub struct Claim(File);

impl Claim {
    /// Holds the file, if nobody does; it is made when it is not there.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Queues for the file: `turn` is called when it is held, on another thread, since nothing ends the wait for it.
    /// Who gave up meanwhile drops what it is given. The kernel serves those who queue in their order.
    ///
    /// # Errors
    ///
    /// As the system says, when the file can not be opened; later ones are told to `turn`.
    pub fn queue(path: &Path, turn: impl FnOnce(io::Result<Self>) + Send + 'static) -> io::Result<()> {
        let file = open(path)?;
        std::thread::spawn(move || {
            let held = loop {
                match file.lock() {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    held => break held,
                }
            };
            turn(held.map(|()| Self(file)));
        });
        Ok(())
    }

    /// The file, for whoever writes into it.
    pub fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A process that is just being started has the file too, until it becomes another program.
        let _ = self.0.unlock();
    }
}

fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // Closed by `exec`, as every file of the standard library.
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}
