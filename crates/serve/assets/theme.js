// Sets the chosen theme before anything is painted. A classic script, because modules run after the first paint.
// Without a choice the page follows the system (`prefers-color-scheme`, in base.css).
(() => {
  const chosen = localStorage.getItem("sampan.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
