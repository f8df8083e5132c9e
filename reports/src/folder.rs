//! The folder of one run.
//!
//! ```text
//!  DIR/report.json      the report: schema/report.schema.json
//!  DIR/samples.jsonl    raw samples, one a line: schema/sample.schema.json; only of load reports
//!  DIR/*.hgrm, *.hlog   distributions, as HDR tools read them
//! ```
//!
//! A report is written to a file beside it and renamed: a full disk or a kill leaves the last whole one. Reading is bounded:
//! a report may come from anywhere.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::model::{Body, Conformance, Load, Peers, Report, Sample, Verdicts};

/// Name of the report.
pub const REPORT: &str = "report.json";
/// Name of the raw samples.
pub const SAMPLES: &str = "samples.jsonl";
/// The largest report that is read.
const REPORT_LIMIT: u64 = 256 << 20;
/// The longest line of samples.
const LINE_LIMIT: u64 = 1 << 20;
/// The most samples that are read of one run.
const SAMPLES_LIMIT: usize = 20_000_000;

/// A report of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyReport {
    /// Of a load generator.
    Load(Box<Report<Load>>),
    /// Of a conformance suite.
    Conformance(Box<Report<Conformance>>),
    /// Of agents against mock services.
    Verdicts(Box<Report<Verdicts>>),
    /// Of peers on one host.
    Peers(Box<Report<Peers>>),
}

/// What can go wrong with a folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A report is larger than any that a tool writes.
    #[error("{}: larger than {} MiB", .0.display(), REPORT_LIMIT >> 20)]
    TooLarge(PathBuf),
    /// A run has more samples than are kept in memory.
    #[error("{}: more than {SAMPLES_LIMIT} samples", .0.display())]
    TooMany(PathBuf),
    /// Not JSON, or not as the schema says.
    #[error("{}: {source}", path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A line of samples is not as the schema says.
    #[error("{}, line {line}: {source}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// A kind that this program does not know.
    #[error("{}: reports of kind {kind:?} are not known", path.display())]
    Kind {
        /// Which file.
        path: PathBuf,
        /// The kind.
        kind: String,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FolderError + '_ {
    |source| FolderError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Writes `report.json`; makes the folder.
///
/// # Errors
/// When the folder or the file cannot be written.
pub fn write<B: Body>(dir: &Path, report: &Report<B>) -> Result<(), FolderError> {
    let mut text = serde_json::to_string_pretty(report).map_err(|source| FolderError::Json {
        path: dir.join(REPORT),
        source,
    })?;
    text.push('\n');
    write_file(dir, REPORT, &text)
}

/// Writes a file of a folder whole or not at all; makes the folder.
///
/// # Errors
/// When the folder or the file cannot be written.
pub fn write_file(dir: &Path, name: &str, text: &str) -> Result<(), FolderError> {
    fs::create_dir_all(dir).map_err(io_error(dir))?;
    let (path, part) = (dir.join(name), dir.join(format!(".{name}.part")));
    let written = fs::write(&part, text).and_then(|()| fs::rename(&part, &path));
    written.map_err(|source| {
        let _ = fs::remove_file(&part);
        FolderError::Io { path, source }
    })
}

/// Reads `report.json` of a folder, or a report file itself.
///
/// # Errors
/// See [`FolderError`].
pub fn read(path: &Path) -> Result<AnyReport, FolderError> {
    #[derive(Deserialize)]
    struct Head {
        kind: String,
    }
    let path = file_of(path);
    let text = read_text(&path)?;
    let head: Head = parse(&path, &text)?;
    Ok(match head.kind.as_str() {
        Load::KIND => AnyReport::Load(parse(&path, &text)?),
        Conformance::KIND => AnyReport::Conformance(parse(&path, &text)?),
        Verdicts::KIND => AnyReport::Verdicts(parse(&path, &text)?),
        Peers::KIND => AnyReport::Peers(parse(&path, &text)?),
        _ => {
            return Err(FolderError::Kind {
                path,
                kind: head.kind,
            });
        }
    })
}

/// Reads a report of one kind from a folder or file.
///
/// # Errors
/// See [`FolderError`]; another kind is one.
pub fn read_as<B: Body>(path: &Path) -> Result<Report<B>, FolderError> {
    let path = file_of(path);
    parse(&path, &read_text(&path)?)
}

fn file_of(path: &Path) -> PathBuf {
    if path.is_dir() {
        path.join(REPORT)
    } else {
        path.to_owned()
    }
}

fn read_text(path: &Path) -> Result<String, FolderError> {
    let file = File::open(path).map_err(io_error(path))?;
    let mut text = String::new();
    let read = file.take(REPORT_LIMIT + 1).read_to_string(&mut text);
    let read = read.map_err(io_error(path))?;
    if u64::try_from(read).unwrap_or(u64::MAX) > REPORT_LIMIT {
        return Err(FolderError::TooLarge(path.to_owned()));
    }
    Ok(text)
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, FolderError> {
    serde_json::from_str(text).map_err(|source| FolderError::Json {
        path: path.to_owned(),
        source,
    })
}

/// Reads the raw samples of a folder. A last line that was cut off is left out: a run may have been killed.
///
/// # Errors
/// See [`FolderError`].
pub fn samples(dir: &Path) -> Result<Vec<Sample>, FolderError> {
    let path = dir.join(SAMPLES);
    let mut reader = BufReader::new(File::open(&path).map_err(io_error(&path))?);
    let mut found = Vec::new();
    let mut line = String::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(LINE_LIMIT).read_line(&mut line);
        if read.map_err(io_error(&path))? == 0 {
            return Ok(found);
        }
        match serde_json::from_str(&line) {
            Ok(_) if found.len() == SAMPLES_LIMIT => return Err(FolderError::TooMany(path)),
            Ok(sample) => found.push(sample),
            Err(_) if !line.ends_with('\n') && line.len() < 1 << 20 => return Ok(found),
            Err(source) => {
                return Err(FolderError::Line {
                    path,
                    line: found.len() + 1,
                    source,
                });
            }
        }
    }
}

/// Writes samples as they come.
#[derive(Debug)]
pub struct SampleWriter {
    out: BufWriter<File>,
    path: PathBuf,
}

impl SampleWriter {
    /// Begins the file; makes the folder.
    ///
    /// # Errors
    /// When the folder or the file cannot be made.
    pub fn create(dir: &Path) -> Result<Self, FolderError> {
        fs::create_dir_all(dir).map_err(io_error(dir))?;
        let path = dir.join(SAMPLES);
        let file = File::create(&path).map_err(io_error(&path))?;
        Ok(Self {
            out: BufWriter::new(file),
            path,
        })
    }

    /// Adds one.
    ///
    /// # Errors
    /// When the disk is full, or fails; then nothing more can be added, and [`Self::give_up`] makes the best of it.
    pub fn add(&mut self, sample: &Sample) -> Result<(), FolderError> {
        let result = serde_json::to_writer(&mut self.out, sample)
            .map_err(io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"));
        result.map_err(io_error(&self.path))
    }

    /// Brings everything to the disk; where not all of it fits, whole lines.
    ///
    /// # Errors
    /// When the disk is full, or fails.
    pub fn finish(mut self) -> Result<(), FolderError> {
        match self.out.flush() {
            Ok(()) => Ok(()),
            Err(source) => {
                let path = self.path.clone();
                self.give_up();
                Err(FolderError::Io { path, source })
            }
        }
    }

    /// Keeps the whole lines that the disk has taken: the last one was cut off by what went wrong, or is still in memory.
    pub fn give_up(self) {
        // Dropped as it is, the writer would try once more to write the rest.
        let (file, _) = self.out.into_parts();
        drop(file);
        // What cannot be cut is left as it is: readers leave out a line that was cut off.
        let _ = cut_to_lines(&self.path);
    }
}

/// Takes what stands behind the last end of a line off a file.
fn cut_to_lines(path: &Path) -> io::Result<()> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let end = file.metadata()?.len();
    let from = end.saturating_sub(LINE_LIMIT);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    (&file).take(LINE_LIMIT).read_to_end(&mut tail)?;
    let Some(last) = tail.iter().rposition(|&byte| byte == b'\n') else {
        return Ok(());
    };
    let kept = u64::try_from(last + 1).unwrap_or(LINE_LIMIT);
    file.set_len(from + kept)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_file_is_cut_to_its_whole_lines(text in "[a\n]{0,40}") {
            let dir = tempfile::tempdir()?;
            let path = dir.path().join("lines");
            fs::write(&path, &text)?;
            cut_to_lines(&path)?;
            let whole = text.rfind('\n').map_or(text.as_str(), |last| &text[..=last]);
            prop_assert_eq!(fs::read_to_string(&path)?, whole);
        }
    }

    #[test]
    fn what_is_given_up_leaves_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SampleWriter::create(dir.path()).unwrap();
        let sample = Sample {
            series: "s".to_owned(),
            round: 0,
            planned_ns: 1,
            sent_ns: None,
            value: Some(2),
            failure: None,
            sandbox: None,
            stages_ns: std::collections::BTreeMap::new(),
        };
        // More than one buffer, so that the disk has taken a part of a line.
        for _ in 0..200 {
            writer.add(&sample).unwrap();
        }
        let path = dir.path().join(SAMPLES);
        assert!(!fs::read_to_string(&path).unwrap().ends_with('\n'));
        writer.give_up();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with('\n') && text.lines().count() < 200);
        assert_eq!(samples(dir.path()).unwrap().len(), text.lines().count());
    }
}
