import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.util.Properties;

/** What BI tools on the JVM ask of pgjdbc. Prints one line per finding, `name: value`; test_jdbc.py says what they must be. */
public class Jdbc {
    public static void main(String[] arguments) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", arguments[1]);
        for (int i = 2; i + 1 < arguments.length; i += 2) {
            properties.setProperty(arguments[i], arguments[i + 1]);
        }
        try (Connection connection = DriverManager.getConnection(arguments[0], properties)) {
            metadata(connection.getMetaData());
            prepared(connection);
            fetched(connection);
            typed(connection);
            isolation(connection);
            refused(connection);
            explained(connection);
        }
    }

    static void say(String name, Object value) {
        System.out.println(name + ": " + value);
    }

    static void metadata(DatabaseMetaData data) throws SQLException {
        try (ResultSet types = data.getTableTypes()) {
            StringBuilder all = new StringBuilder();
            while (types.next()) {
                all.append(types.getString(1)).append(',');
            }
            say("table types", all);
        }
        for (String[] wanted : new String[][] {{"FOREIGN TABLE"}, {"TABLE", "VIEW", "FOREIGN TABLE"}, {"TABLE"}, null}) {
            try (ResultSet tables = data.getTables(null, "shop", "%", wanted)) {
                StringBuilder all = new StringBuilder();
                while (tables.next()) {
                    all.append(tables.getString("TABLE_NAME")).append(" (").append(tables.getString("TABLE_TYPE")).append(", ")
                        .append(tables.getString("REMARKS")).append(") ");
                }
                say("tables " + (wanted == null ? "null" : String.join("+", wanted)), all);
            }
        }
        try (ResultSet columns = data.getColumns(null, "shop", "orders", "%")) {
            while (columns.next()) {
                say("column " + columns.getInt("ORDINAL_POSITION"), columns.getString("COLUMN_NAME") + " " + columns.getString("TYPE_NAME")
                    + " " + columns.getInt("DATA_TYPE") + " " + columns.getString("IS_NULLABLE") + " " + columns.getString("REMARKS"));
            }
        }
        try (ResultSet keys = data.getPrimaryKeys(null, "shop", "orders"); ResultSet indexes = data.getIndexInfo(null, "shop", "orders", false, true);
             ResultSet imported = data.getImportedKeys(null, "shop", "orders")) {
            say("keys", keys.next() + " " + indexes.next() + " " + imported.next());
        }
        try (ResultSet rights = data.getTablePrivileges(null, "shop", "orders")) {
            StringBuilder all = new StringBuilder();
            while (rights.next()) {
                if (rights.getString("GRANTEE").equals("analyst")) {
                    all.append(rights.getString("PRIVILEGE")).append(' ');
                }
            }
            say("privileges", all);
        }
    }

    /** The driver prepares a statement on the server at its fifth execution; PostgreSQL may take a generic plan after five more. */
    static void prepared(Connection connection) throws SQLException {
        String sql = "SELECT count(*), sum(units) FROM %s.orders WHERE customer = ? AND placed >= ? AND due < ? AND paid = ?";
        boolean same = true;
        try (PreparedStatement foreign = connection.prepareStatement(sql.formatted("shop"));
             PreparedStatement plain = connection.prepareStatement(sql.formatted("plain"))) {
            for (int i = 0; i < 24; i++) {
                String[] answers = new String[2];
                int n = 0;
                for (PreparedStatement statement : new PreparedStatement[] {foreign, plain}) {
                    statement.setString(1, "c%02d".formatted(i % 12));
                    statement.setTimestamp(2, Timestamp.valueOf("2026-02-%02d 10:00:00".formatted(1 + i)));
                    statement.setObject(3, LocalDate.of(2026, 8, 1 + i));
                    statement.setBoolean(4, i % 2 == 0);
                    try (ResultSet rows = statement.executeQuery()) {
                        rows.next();
                        answers[n++] = rows.getLong(1) + " " + rows.getBigDecimal(2);
                    }
                }
                same &= answers[0].equals(answers[1]);
            }
        }
        say("prepared statements answer as on plain tables", same);
        try (Statement statement = connection.createStatement();
             ResultSet rows = statement.executeQuery("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%shop.orders%'")) {
            rows.next();
            say("prepared on the server", rows.getInt(1));
        }
    }

    /** With a fetch size, and only without autocommit, the driver fetches from a portal: this many rows are in memory. */
    static void fetched(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        try (PreparedStatement statement = connection.prepareStatement("SELECT id, units FROM shop.orders WHERE units >= ? ORDER BY id")) {
            statement.setFetchSize(50);
            statement.setInt(1, 0);
            long rows = 0, ids = 0;
            try (ResultSet all = statement.executeQuery()) {
                while (all.next()) {
                    rows++;
                    ids += all.getLong("id");
                }
            }
            say("fetched", rows + " rows, ids add up to " + ids);
            statement.setMaxRows(7);
            try (ResultSet some = statement.executeQuery()) {
                int n = 0;
                while (some.next()) {
                    n++;
                }
                say("at most", n);
            }
        }
        connection.commit();
        connection.setAutoCommit(true);
    }

    static void typed(Connection connection) throws SQLException {
        String sql = "SELECT * FROM shop.orders WHERE id = 60";
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            ResultSetMetaData data = rows.getMetaData();
            StringBuilder classes = new StringBuilder();
            for (int i = 1; i <= data.getColumnCount(); i++) {
                classes.append(data.getColumnClassName(i).replaceAll(".*\\.", "")).append(' ');
            }
            say("classes", classes);
            rows.next();
            say("row", rows.getString("customer") + " " + rows.getLong("id") + " " + rows.getObject("placed", LocalDateTime.class) + " "
                + rows.getObject("due", LocalDate.class) + " " + rows.getString("product") + " " + rows.getDouble("price") + " "
                + rows.getBoolean("paid") + " " + rows.getBytes("photo").length);
        }
    }

    static void isolation(Connection connection) throws SQLException {
        StringBuilder counts = new StringBuilder();
        for (int level : new int[] {Connection.TRANSACTION_READ_UNCOMMITTED, Connection.TRANSACTION_READ_COMMITTED,
            Connection.TRANSACTION_REPEATABLE_READ, Connection.TRANSACTION_SERIALIZABLE}) {
            connection.setTransactionIsolation(level);
            connection.setReadOnly(true);
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery("SELECT count(*) FROM shop.orders")) {
                rows.next();
                counts.append(rows.getInt(1)).append(' ');
            }
            connection.commit();
            connection.setAutoCommit(true);
            connection.setReadOnly(false);
        }
        say("isolation", counts);
    }

    static void refused(Connection connection) {
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate("DELETE FROM shop.orders");
            say("refused", "nothing");
        } catch (SQLException e) {
            say("refused", e.getSQLState());
        }
    }

    static void explained(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(
            "EXPLAIN (VERBOSE, COSTS OFF) SELECT product, count(*) FROM shop.orders WHERE placed >= ? GROUP BY product")) {
            statement.setTimestamp(1, Timestamp.valueOf("2026-02-01 00:00:00"));
            StringBuilder plan = new StringBuilder();
            try (ResultSet rows = statement.executeQuery()) {
                while (rows.next()) {
                    plan.append(rows.getString(1)).append(" | ");
                }
            }
            say("plan", plan);
        }
    }
}
