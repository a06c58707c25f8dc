import jakarta.servlet.Filter;
import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.annotation.WebFilter;
import jakarta.servlet.annotation.WebListener;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import jakarta.servlet.http.HttpSession;
import jakarta.servlet.http.HttpSessionEvent;
import jakarta.servlet.http.HttpSessionListener;
import java.io.IOException;

/**
 * Tells Tidegate that a request ended its session.
 *
 * <p>A servlet container leaves the session's cookie in the browser after {@code invalidate()}, so that from outside a
 * logout cannot be told from an ordinary answer, nor the next login from a change of the session's id. With this class
 * in the application's class path the answer to a request whose session was invalidated carries
 * {@code Tidegate-Session: end}, or {@code new} when another session was opened in its place. Tidegate takes the field
 * off before the answer goes to the client, closes the session, and sends the client's next request to the newest
 * generation.
 *
 * <p>It is found by its annotations. With {@code metadata-complete="true"} in {@code web.xml} name it there, once as
 * {@code <filter>} for {@code /*}, before all others, and once as {@code <listener>}. For containers before Servlet 5
 * (Tomcat 9 and older) replace {@code jakarta.} by {@code javax.}.
 *
 * <p>Not seen: a session that ends outside of its own request (a timeout, another thread, an administrator), and one
 * that is invalidated after the answer's head has gone out. These close at Tidegate's idle timeout.
 */
@WebFilter(urlPatterns = "/*", asyncSupported = true)
@WebListener
public class TidegateSessionFilter implements Filter, HttpSessionListener {
    private static final String FIELD = "Tidegate-Session";

    /** The exchange that this thread is working on. Filter and listener are two objects of this class. */
    private static final ThreadLocal<Exchange> CURRENT = new ThreadLocal<>();

    private static final class Exchange {
        final HttpServletResponse response;
        /** The session with which the request came, or null. */
        final HttpSession session;
        boolean ended;

        Exchange(HttpServletRequest request, HttpServletResponse response) {
            this.response = response;
            this.session = request.getSession(false);
        }
    }

    @Override
    public void doFilter(ServletRequest request, ServletResponse response, FilterChain chain)
            throws IOException, ServletException {
        Exchange outer = CURRENT.get();
        if (outer != null
                || !(request instanceof HttpServletRequest)
                || !(response instanceof HttpServletResponse)) {
            chain.doFilter(request, response);
            return;
        }
        CURRENT.set(new Exchange((HttpServletRequest) request, (HttpServletResponse) response));
        try {
            chain.doFilter(request, response);
        } finally {
            CURRENT.remove();
        }
    }

    @Override
    public void sessionDestroyed(HttpSessionEvent event) {
        Exchange exchange = CURRENT.get();
        // The id may have changed since the request came; the session tells its present one.
        if (exchange != null
                && exchange.session != null
                && exchange.session.getId().equals(event.getSession().getId())) {
            exchange.ended = true;
            exchange.response.setHeader(FIELD, "end");
        }
    }

    @Override
    public void sessionCreated(HttpSessionEvent event) {
        Exchange exchange = CURRENT.get();
        if (exchange != null && exchange.ended) {
            exchange.response.setHeader(FIELD, "new");
        }
    }
}
