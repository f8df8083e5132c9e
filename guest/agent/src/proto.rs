//! Messages and service traits of the Connect services, generated from `proto/*.proto` by the build script:
//! `proto::process` and `proto::filesystem`. A `oneof` named `event` of message `M` is
//! `proto::<package>::m::Event`; a singular message field is a `buffa::MessageField` (`is_set`, `as_option`).
#![allow(missing_docs, unexpected_cfgs, clippy::all, clippy::pedantic)]

connectrpc::include_generated!();
