//! The files of a COPY step: an archive, and the link to put it at.

use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Method, Uri};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Built;
use crate::check::{Stop, fail};
use crate::context::Context;
use crate::wire::reply::{Reply, text};
use crate::wire::request::Request;

/// A file of an archive: name, mode, content.
pub type File<'a> = (&'a str, u32, &'a [u8]);

/// A gzip tar of these files, and a hash that only it has.
pub fn packed(files: &[File<'_>]) -> Result<(Vec<u8>, String), Stop> {
    let ours = |error: std::io::Error| Stop::Harness(format!("no archive: {error}"));
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
        header.set_mode(*mode);
        header.set_mtime(1_700_000_000);
        archive
            .append_data(&mut header, name, *content)
            .map_err(ours)?;
    }
    let bytes = archive
        .into_inner()
        .and_then(GzEncoder::finish)
        .map_err(ours)?;
    let hash = Sha256::digest(&bytes);
    Ok((
        bytes,
        hash.iter().map(|byte| format!("{byte:02x}")).collect(),
    ))
}

/// Asks for a link; any reply is a result.
pub async fn link(c: &Context, built: &Built, hash: &str) -> Result<Reply, Stop> {
    let path = format!("/templates/{}/files/{hash}", built.id);
    c.get(&path).await
}

/// Puts an archive where the link says, unless it is there already.
///
/// # Errors
/// Untestable when that fails.
pub async fn upload(c: &Context, built: &Built, archive: &[u8], hash: &str) -> Result<(), Stop> {
    let blocked = |stop: Stop| stop.blocks("the files of a COPY step could not be uploaded");
    let answer = link(c, built, hash).await.map_err(blocked)?;
    let answer = answer.status(201).and_then(Reply::json).map_err(blocked)?;
    if answer["present"] == true {
        return Ok(());
    }
    put(c, &answer, archive).await.map_err(blocked)
}

async fn put(c: &Context, answer: &Value, archive: &[u8]) -> Result<(), Stop> {
    let url = text(answer, "url")?;
    // Such a link is a right to write; it is not shown.
    let uri: Uri = url
        .parse()
        .map_err(|_| fail("an address as `url`", url.clone()))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let origin = url
        .split_once(path)
        .map_or(url.as_str(), |(origin, _)| origin);
    let mut request =
        Request::new(&c.target().way, Method::PUT, origin, path, c.usual()).body(archive.to_vec());
    for (name, value) in answer["headers"].as_object().into_iter().flatten() {
        request = request.header(name, value.as_str().unwrap_or(""));
    }
    let reply = c.send(request).await?;
    if reply.status.is_success() {
        return Ok(());
    }
    Err(fail("a status of 2xx for the upload", reply.brief()))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn an_archive_holds_its_files_and_its_hash_is_of_it() {
        let (bytes, hash) = packed(&[("a.txt", 0o640, b"one")]).unwrap();
        assert_eq!(hash.len(), 64);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        let mut entries = archive.entries().unwrap();
        let mut entry = entries.next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("a.txt"));
        assert_eq!(entry.header().mode().unwrap(), 0o640);
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        assert_eq!(content, "one");
        assert_ne!(packed(&[("a.txt", 0o640, b"two")]).unwrap().1, hash);
    }
}
