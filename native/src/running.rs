//! How many requests run on a connection, for who waits for the last of them.

use std::sync::Arc;

use tokio::sync::watch;

#[derive(Clone, Default)]
pub struct Running(Arc<watch::Sender<usize>>);

impl Running {
    /// One more, until what it returns is dropped.
    pub fn begin(&self) -> Request {
        self.0.send_modify(|count| *count += 1);
        Request(self.clone())
    }

    pub fn is_none(&self) -> bool {
        *self.0.borrow() == 0
    }

    /// Ends when none runs.
    pub async fn none(&self) {
        let mut count = self.0.subscribe();
        // It fails once the sender is gone, which is here.
        let _ = count.wait_for(|count| *count == 0).await;
    }
}

pub struct Request(Running);

impl Drop for Request {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::Running;

    #[tokio::test]
    async fn ends_with_the_last() {
        let running = Running::default();
        running.none().await;
        let (first, second) = (running.begin(), running.begin());
        drop(first);
        let waiting = tokio::spawn({
            let running = running.clone();
            async move { running.none().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        timeout(Duration::from_secs(5), waiting)
            .await
            .expect("the last has ended")
            .expect("nothing panics");
    }
}
