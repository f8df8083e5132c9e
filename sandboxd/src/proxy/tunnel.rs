//! Bytes in both directions after a protocol switch, until either side is done or the sandbox ends.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

/// Connects the two sides. Whatever `guard` holds is released at the end.
pub async fn run<G>(client: OnUpgrade, guest: OnUpgrade, cut: CancellationToken, guard: G) {
    let both = async {
        let (client, guest) = tokio::try_join!(client, guest)?;
        let (mut client, mut guest) = (TokioIo::new(client), TokioIo::new(guest));
        // A copy that fails has ended the tunnel; there is nobody to tell.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut guest).await;
        Ok::<_, hyper::Error>(())
    };
    tokio::select! {
        result = both => if let Err(error) = result {
            tracing::debug!(%error, "a connection was not switched");
        },
        () = cut.cancelled() => {}
    }
    drop(guard);
}
