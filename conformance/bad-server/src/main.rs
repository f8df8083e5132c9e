//! Serves in the foreground: `bad-server [PORT [FAULT]]`; `bad-server faults` lists the faults.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use bad_server::{BadServer, FAULTS, KEY};

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("faults") {
        FAULTS.iter().for_each(|fault| println!("{fault}"));
        return ExitCode::SUCCESS;
    }
    let Ok(port) = first.unwrap_or_else(|| "3999".to_owned()).parse::<u16>() else {
        eprintln!("bad-server [PORT [FAULT]]");
        return ExitCode::from(2);
    };
    let fault = arguments.next();
    match BadServer::start_at(([127, 0, 0, 1], port).into(), fault.as_deref()).await {
        Err(error) => {
            eprintln!("bad-server: {error}");
            ExitCode::FAILURE
        }
        Ok(server) => {
            println!("{} with key {KEY} and fault {fault:?}", server.url());
            server.forever().await;
            ExitCode::SUCCESS
        }
    }
}
