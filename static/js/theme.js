// Runs before the first paint, so that a chosen theme does not flash.
(() => {
  try {
    const theme = localStorage.getItem('honeycast.theme');
    if (theme === '"light"' || theme === '"dark"') document.documentElement.dataset.theme = theme.slice(1, -1);
  } catch {
    // Storage may be forbidden; the system's theme is as good.
  }
})();
