// Runs before the first paint and before the page's modules.

(() => {
  try {
    // So that a chosen theme does not flash.
    const theme = localStorage.getItem('honeycast.theme');
    if (theme === '"light"' || theme === '"dark"') document.documentElement.dataset.theme = theme.slice(1, -1);
  } catch {
    // Storage may be forbidden; the system's theme is as good.
  }

  // A page one of whose modules could not be fetched (the network changed, the server restarted) does nothing. It is loaded
  // again, ever later if that goes on, and not before the server answers: a browser's own error page would stay.
  const KEY = 'honeycast.reloads';
  const MAX_SECONDS = 30;
  let failed = false;

  const tries = () => {
    try {
      return Number(sessionStorage.getItem(KEY));
    } catch {
      return 3;
    }
  };
  const remember = (count) => {
    try {
      sessionStorage.setItem(KEY, count);
    } catch {
      // Then each page waits the same time.
    }
  };
  const again = async (count) => {
    await new Promise((resolve) => {
      setTimeout(resolve, Math.min(2 ** count, MAX_SECONDS) * 1_000);
      addEventListener('online', resolve, { once: true });
    });
    const answers = await fetch(location.href, { cache: 'no-store' }).then(({ ok }) => ok, () => false);
    remember(count + 1);
    if (answers) location.reload();
    else again(count + 1);
  };

  addEventListener('error', ({ target }) => {
    if (failed || !(target instanceof HTMLScriptElement)) return;
    failed = true;
    const say = () => document.getElementById('unloaded')?.removeAttribute('hidden');
    if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', say);
    else say();
    again(tries());
  }, true);
  addEventListener('load', () => { if (!failed) remember(0); });
})();
