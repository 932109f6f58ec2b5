"""Jobs that a scheduler starts: releases, batches, the lock and the journal."""
