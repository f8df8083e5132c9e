//! Control protocol between the daemon and the guest agent.
