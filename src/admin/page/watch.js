// Knows what is being looked at, so that nothing is asked for in vain.

const seen = new WeakSet();
const observer = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) seen.add(target);
      else seen.delete(target);
    }
  },
  { rootMargin: "200px" },
);

/**
 * Whether an element is in sight of a visible page. The first call for an element only begins to watch it.
 * @param {Element} node the element
 * @returns {boolean} whether it is looked at
 */
export function onScreen(node) {
  observer.observe(node);
  return document.visibilityState === "visible" && seen.has(node);
}
