// The entry of the viewer page for links to /viewer.js, beside which static/ lies.
import './static/js/viewer.js';
