//! A pseudo-terminal: the master that the agent reads and writes, and its slave for the program.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use rustix::fs::{Gid, Mode, Uid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::pump::compact;

/// Group `tty` of Debian, which owns terminals; `write(1)` and `wall(1)` run with it.
const TTY_GID: u32 = 5;

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

impl Default for Size {
    /// 80 × 24, the size of a VT100.
    fn default() -> Self {
        Self { cols: 80, rows: 24 }
    }
}

impl From<Size> for Winsize {
    fn from(size: Size) -> Self {
        Self {
            ws_row: size.rows,
            ws_col: size.cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        }
    }
}

/// Opens a terminal; the slave belongs to `uid`, so that the user's programs can open it again by name.
///
/// # Errors
/// What the kernel says, for instance when there are too many terminals.
pub fn open(size: Size, uid: u32) -> io::Result<(Pty, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    rustix::fs::fchown(
        &slave,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(TTY_GID)),
    )?;
    rustix::fs::fchmod(&slave, Mode::RUSR | Mode::WUSR | Mode::WGRP)?;
    tcsetwinsize(&master, size.into())?;
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok((
        Pty {
            // SAFETY: an `OwnedFd` names one and the same open descriptor until it is dropped, and it is dropped only
            // with the `AsyncFd`.
            master: unsafe { AsyncFd::register(master) }?,
        },
        slave,
    ))
}

/// The master of a terminal.
#[derive(Debug)]
pub struct Pty {
    master: AsyncFd<OwnedFd>,
}

impl Pty {
    /// Waits for output and reads at most `limit` bytes of it. Empty when the last slave is closed (the kernel says
    /// `EIO`).
    ///
    /// # Errors
    /// Other errors of read(2).
    pub async fn read_chunk(&self, limit: usize) -> io::Result<Bytes> {
        loop {
            let mut ready = self.master.readable().await?;
            // Made only now: a silent terminal keeps no buffer.
            let mut buffer = vec![0; limit];
            match ready.try_io(|fd| Ok(rustix::io::read(fd, &mut buffer)?)) {
                Ok(Ok(length)) => {
                    buffer.truncate(length);
                    return Ok(compact(buffer));
                }
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => {
                    return Ok(Bytes::new());
                }
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }

    /// Writes input for the program, all of it.
    ///
    /// # Errors
    /// Errors of write(2).
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self
                .master
                .async_io(Interest::WRITABLE, |fd| {
                    rustix::io::write(fd, bytes).map_err(io::Error::from)
                })
                .await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Changes the size; the kernel tells the program with SIGWINCH.
    ///
    /// # Errors
    /// Errors of ioctl(2).
    pub fn resize(&self, size: Size) -> io::Result<()> {
        Ok(tcsetwinsize(self.master.as_fd(), size.into())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn master_and_slave_talk() {
        let (pty, slave) = open(Size { cols: 33, rows: 7 }, 0).expect("a terminal");
        let size = rustix::termios::tcgetwinsize(&slave).expect("a size");
        assert_eq!((size.ws_col, size.ws_row), (33, 7));
        pty.resize(Size {
            cols: 100,
            rows: 40,
        })
        .expect("resized");
        let size = rustix::termios::tcgetwinsize(&slave).expect("a size");
        assert_eq!((size.ws_col, size.ws_row), (100, 40));

        rustix::io::write(&slave, b"hello\n").expect("written");
        assert_eq!(
            pty.read_chunk(64).await.expect("read").as_ref(),
            b"hello\r\n"
        );

        drop(slave);
        assert!(pty.read_chunk(64).await.expect("end").is_empty());
    }
}
