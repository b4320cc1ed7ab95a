// The entry of the viewer page. It is served as /viewer.js too, so the import is absolute.
import '/static/js/viewer.js';
