//! The filesystem service, without watches: these are in `watch`.

use serde_json::{Value, json};

use super::connect::Failure;
use super::{User, resolved};
use crate::tree::{Kind, Tree, TreeError, clean, parent};
use crate::world::{Sandbox, World, lock};

fn failed(error: TreeError, missing: &'static str) -> Failure {
    let code = match error {
        TreeError::Missing => missing,
        TreeError::Exists => "already_exists",
        TreeError::IsDir | TreeError::NotDir => "invalid_argument",
        TreeError::NoSpace => "resource_exhausted",
        TreeError::Loop => "failed_precondition",
    };
    Failure::new(code, &error.to_string())
}

pub fn unary(
    w: &World,
    sandbox: &Sandbox,
    who: &User,
    method: &str,
    body: &Value,
) -> Result<Value, Failure> {
    let path = |name: &str| resolved(w, who, body[name].as_str().unwrap_or(""));
    let mut tree = lock(&sandbox.tree);
    match method {
        "Stat" => {
            let missing = if w.on("stat-missing-internal") {
                "internal"
            } else {
                "not_found"
            };
            let path = path("path");
            if tree.get(&path).is_none() {
                return Err(failed(TreeError::Missing, missing));
            }
            Ok(json!({ "entry": entry(w, &tree, &path) }))
        }
        "MakeDir" => make_dir(w, &mut tree, who, &path("path")),
        "Move" => {
            let (from, to) = (path("source"), path("destination"));
            if tree.get(&parent(&to)).is_none() && w.on("move-no-parents") {
                return Err(failed(TreeError::Missing, "not_found"));
            }
            if tree.get(&to).is_some() && w.on("move-over-existing-409") {
                return Err(failed(TreeError::Exists, "not_found"));
            }
            match tree.rename(&from, &to, &who.name, w.on("move-copies")) {
                Err(TreeError::Missing) if w.on("move-missing-200") => Ok(json!({ "entry": {} })),
                Err(error) => Err(failed(error, "not_found")),
                Ok(()) if w.on("move-without-entry") => Ok(json!({})),
                Ok(()) => Ok(json!({ "entry": entry(w, &tree, &to) })),
            }
        }
        "Remove" => {
            let path = path("path");
            if tree.get(&path).is_none() && w.on("remove-missing-404") {
                return Err(failed(TreeError::Missing, "not_found"));
            }
            if (!w.on("remove-only-empty") || tree.below(&path, 1).is_empty())
                && !w.on("remove-ignored")
            {
                tree.remove(&path);
            }
            Ok(json!({}))
        }
        "ListDir" => list(w, &tree, &path("path"), body),
        _ => Err(Failure::new("unimplemented", "no such method")),
    }
}

fn make_dir(w: &World, tree: &mut Tree, who: &User, path: &str) -> Result<Value, Failure> {
    if tree.get(&parent(path)).is_none() && w.on("make-dir-no-parents") {
        return Err(failed(TreeError::Missing, "not_found"));
    }
    let mode = if w.on("make-dir-mode-0777") {
        0o777
    } else {
        0o755
    };
    let owner = if w.on("make-dir-owner-root") {
        "root"
    } else {
        &who.name
    };
    match tree.make_dir(path, owner, mode) {
        Err(TreeError::Exists) if w.on("make-dir-existing-200") => {}
        Err(TreeError::NotDir) if w.on("make-dir-over-file-200") => {}
        Err(error) => return Err(failed(error, "not_found")),
        Ok(()) => {}
    }
    if w.on("make-dir-without-entry") {
        Ok(json!({}))
    } else {
        Ok(json!({ "entry": entry(w, tree, path) }))
    }
}

fn list(w: &World, tree: &Tree, path: &str, body: &Value) -> Result<Value, Failure> {
    let root = match tree.resolved(path) {
        Err(TreeError::Missing) if w.on("list-missing-empty") => {
            return Ok(json!({ "entries": [] }));
        }
        other => other.map_err(|error| failed(error, "not_found"))?,
    };
    if tree.get(&root).is_some_and(|node| node.kind != Kind::Dir) {
        if w.on("list-file-200") {
            return Ok(json!({ "entries": [] }));
        }
        return Err(failed(TreeError::NotDir, "not_found"));
    }
    let asked = u32::try_from(body["depth"].as_u64().unwrap_or(0)).unwrap_or(u32::MAX);
    let depth = match asked {
        0 if w.on("depth-zero-empty") => 0,
        0 => 1,
        _ if w.on("depth-always-one") => 1,
        1 if w.on("depth-ignored") => 99,
        depth => depth,
    };
    if root != path && w.on("list-root-link-empty") {
        return Ok(json!({ "entries": [] }));
    }
    let mut below = tree.below(&root, depth);
    if w.on("list-follows-links") && depth > 1 {
        let links: Vec<String> = below
            .iter()
            .filter_map(|have| tree.resolved(have).ok().filter(|to| to != have))
            .collect();
        for to in links {
            below.extend(tree.below(&to, 1));
        }
    }
    if w.on("list-unsorted") {
        below.reverse();
    }
    // Paths are shown below the root that was asked for, also where that is a link.
    let entries: Vec<Value> = below
        .iter()
        .map(|have| {
            let mut shown = entry(w, tree, have);
            if !w.on("list-relative-paths") {
                let above = if w.on("list-root-resolved") {
                    root.as_str()
                } else {
                    path
                };
                let rest = have.strip_prefix(&root).unwrap_or(have);
                shown["path"] = json!(format!("{above}{rest}"));
            } else {
                shown["path"] = shown["name"].clone();
            }
            shown
        })
        .collect();
    Ok(json!({ "entries": entries }))
}

/// One entry, as the agent shows it.
pub fn entry(w: &World, tree: &Tree, path: &str) -> Value {
    let Some(own) = tree.get(path) else {
        return Value::Null;
    };
    let link = matches!(own.kind, Kind::Link(_));
    let resolved = tree.resolved(path).ok();
    let target = match &resolved {
        Some(to) if !w.on("stat-of-link-itself") => tree.get(to).unwrap_or(own),
        _ => own,
    };
    let (kind, size, letter) = match &target.kind {
        Kind::Dir if w.on("dir-as-file") => ("FILE_TYPE_FILE", 0, '-'),
        Kind::Dir => ("FILE_TYPE_DIRECTORY", 4_096, 'd'),
        Kind::File(content) => ("FILE_TYPE_FILE", content.len(), '-'),
        Kind::Link(_) if w.on("stat-of-link-itself") => ("FILE_TYPE_SYMLINK", 0, '-'),
        Kind::Link(_) if w.on("broken-link-as-file") => ("FILE_TYPE_FILE", 0, '-'),
        Kind::Link(_) => ("FILE_TYPE_UNSPECIFIED", 0, '-'),
    };
    let bits: String = (0..9)
        .map(|bit| {
            if target.mode & (0o400 >> bit) != 0 {
                char::from(b"rwxrwxrwx"[bit])
            } else {
                '-'
            }
        })
        .collect();
    let mode = if w.on("mode-with-type") {
        target.mode | 0o100_000
    } else {
        target.mode
    };
    let numbered = target.owner.bytes().all(|byte| byte.is_ascii_digit());
    let owner = if w.on("owner-as-number") {
        "1000"
    } else if numbered && w.on("owner-number-empty") {
        ""
    } else {
        &target.owner
    };
    let letter = if link && !w.on("link-letter-missing") {
        'L'
    } else {
        letter
    };
    let modified = if w.on("modified-as-number") {
        json!(target.modified.as_second())
    } else {
        json!(target.modified.to_string())
    };
    let mut body = json!({
        "name": clean(path).rsplit('/').next().unwrap_or(""),
        "type": kind,
        "path": path,
        "size": if w.on("size-zero") { "0".to_owned() } else { size.to_string() },
        "mode": mode,
        "permissions": format!("{letter}{bits}"),
        "owner": owner,
        "group": owner,
        "modifiedTime": modified,
    });
    if link {
        if let (Some(to), false) = (resolved, w.on("no-symlink-target")) {
            body["symlinkTarget"] = json!(to);
        }
        if !w.on("no-is-symlink") {
            body["isSymlink"] = json!(true);
        }
    }
    if !target.metadata.is_empty() && !w.on("stat-without-metadata") {
        body["metadata"] = json!(target.metadata);
    }
    if w.on("permissions-missing")
        && let Some(members) = body.as_object_mut()
    {
        members.remove("permissions");
    }
    body
}
